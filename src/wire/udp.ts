/**
 * UDP headers (RFC 768).
 *
 *    0    2    4      6        8
 *   ┌────┬────┬──────┬────────┬────────
 *   │ sp │ dp │length│checksum│ payload
 *   └────┴────┴──────┴────────┴────────
 */
export const HEADER = 8;
export const SOURCE_PORT = 0;
export const DESTINATION_PORT = 2;
export const LENGTH = 4;
export const CHECKSUM = 6;

/** BFD control packets, single hop (RFC 5881 §4). */
export const PORT_BFD = 3784;

/** What nodes tell each other of flows (wire/flowShare), between tunnel addresses. Registered for nothing. */
export const PORT_FLOW_SHARE = 4794;
