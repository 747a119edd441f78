/** What a check finds: one thing that two places say differently. Types and text only. */

export interface Disagreement {
  /**
   * error: packets go astray, or will. leak: an address that nobody has; it is taken back by itself.
   * warning: worth a look, and no disagreement.
   */
  severity: "error" | "leak" | "warning";
  /** Stable name of the kind of finding. */
  kind: string;
  /** "cluster" for what objects of the API say of one another, "node NAME" for what that node has. */
  where: string;
  /** What it is about: a pod, a node, a block, an address, a device. */
  subject: string;
  message: string;
  /** What to do about it. */
  remedy: string;
}

/** One line. */
export function disagreementText(each: Disagreement): string {
  const { severity, where, subject, kind, message, remedy } = each;
  return `${severity}: ${where}: ${subject} ${message} [${kind}]. ${remedy}`;
}
