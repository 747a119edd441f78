/** Directory for an agent's record of what it made on the host, and for its sockets, unless it is told another. */
export const DEFAULT_STATE_DIR = "/run/podwire";
