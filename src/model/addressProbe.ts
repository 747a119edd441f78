/**
 * How the controller asks a node whether somebody on its LAN has an address (RFC 5227), by
 * annotations of the Node object, which both watch anyway. Pure.
 *
 *   agent       ADDRESS_PROBE  = "true"                                 it can probe
 *   controller  PROBE_REQUEST  = {"192.168.2.36": "7"}                  address → number of the question
 *   agent       PROBE_RESULT   = {"192.168.2.36": {"id": "7", "mac": ""}}
 *
 * The agent probes every address whose question has no answer with the same id, and answers with the
 * MAC of whoever has it, or "" when the probes stayed unanswered. It keeps answers only to questions
 * that are still asked; the controller takes a question back when it has its answer, or waits no more.
 */

/** Node: "true" where its agent answers PROBE_REQUEST. */
export const ADDRESS_PROBE = "podwire.dev/address-probe";
/** Node: what the controller asks. */
export const PROBE_REQUEST = "podwire.dev/address-probe-request";
/** Node: what its agent found. */
export const PROBE_RESULT = "podwire.dev/address-probe-result";

/** Address in dotted decimal → id of the question. */
export type ProbeRequests = Record<string, string>;
/** Address in dotted decimal → answer to the question with that id; `mac` empty: nobody has it. */
export type ProbeResults = Record<string, { id: string; mac: string }>;

/** Value of PROBE_REQUEST as a record; what is not of its form is left out. */
export function readProbeRequests(text: string | undefined): ProbeRequests {
  return Object.fromEntries(
    entriesOf(text).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** Value of PROBE_RESULT as a record; what is not of its form is left out. */
export function readProbeResults(text: string | undefined): ProbeResults {
  const results: ProbeResults = {};
  for (const [address, value] of entriesOf(text)) {
    if (typeof value !== "object" || value === null) continue;
    const { id, mac } = value as { id?: unknown; mac?: unknown };
    if (typeof id === "string" && typeof mac === "string") results[address] = { id, mac };
  }
  return results;
}

function entriesOf(text: string | undefined): [string, unknown][] {
  if (!text) return [];
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? Object.entries(value) : [];
  } catch {
    return [];
  }
}
