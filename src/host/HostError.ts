/** The one error that host/ throws: what was attempted, where, and the kernel's answer. */
export class HostError extends Error {
  override readonly name = "HostError";

  /**
   * @param action what was attempted: "add address 10.1.235.192/32"
   * @param where device and namespace: 'podwire0', 'eth0 in /run/netns/a'
   * @param code errno name (EEXIST, EPERM, …), or "" where there is none
   * @param detail the underlying message
   */
  constructor(
    readonly action: string,
    readonly where: string,
    readonly code: string,
    readonly detail: string,
  ) {
    super(`${action}${where === "" ? "" : ` (${where})`}: ${code === "" ? detail : code}`);
  }

  /** Wraps whatever was thrown; a HostError stays as it is. */
  static from(error: unknown, action: string, where: string): HostError {
    if (error instanceof HostError) return error;
    const { message = String(error), code } = error as { message?: string; code?: unknown };
    return new HostError(action, where, typeof code === "string" ? code : errnoIn(message), message);
  }
}

/**
 * The errno name in a message of the netlink package ("Request rejected: EEXIST"), which is all
 * that its errors carry; "" without one.
 */
function errnoIn(message: string): string {
  return /\b(E[A-Z0-9]{2,})\b/.exec(message)?.[1] ?? "";
}

/** " in NETNS" for a namespace path, "" for the own namespace. */
export function inNamespace(path: string): string {
  return path === "" ? "" : ` in ${path}`;
}
