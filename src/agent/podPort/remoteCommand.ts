/**
 * The remote command protocol over WebSocket (k8s.io/apimachinery remotecommand, v4.channel.k8s.io and
 * v5.channel.k8s.io): each binary message begins with the number of its channel.
 *
 *   0 stdin →   1 stdout ←   2 stderr ←   3 error ←: one Status at the end   4 resize →: {"Width", "Height"}
 *   255 (v5 only) →: the channel whose number follows has ended
 *
 * Pure.
 */
import type { StatusBody } from "../../kube/KubeError.js";
import type { ExecResult } from "../../runtime/PodAccess.js";

/** The best first. */
export const PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const;

/** Close codes of RFC 6455 §7.4.1. */
export const CLOSE = {
  normal: 1000,
  protocolError: 1002,
  unsupportedData: 1003,
  invalidPayload: 1007,
} as const;

export type ClientMessage =
  | { kind: "stdin"; data: Buffer }
  | { kind: "endOfStdin" }
  | { kind: "resize"; columns: number; rows: number }
  /** Says nothing, as a kubelet takes it too. */
  | { kind: "nothing" };

/** A message that breaks the protocol. `code` is the WebSocket close code that answers it. */
export class MessageError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
    this.name = "MessageError";
  }
}

/** The best protocol of those that a client offers in Sec-WebSocket-Protocol; undefined for none of ours. */
export function chooseProtocol(offered: string | undefined): Protocol | undefined {
  const names = (offered ?? "").split(",").map((each) => each.trim());
  return PROTOCOLS.find((each) => names.includes(each));
}

/** What a client's message says. Throws a MessageError. */
export function parseMessage(protocol: Protocol, data: Buffer, isBinary: boolean): ClientMessage {
  if (!isBinary) throw new MessageError(CLOSE.unsupportedData, "messages must be binary");
  if (data.length === 0) return { kind: "nothing" };
  const channel = data[0]!;
  const content = data.subarray(1);
  if (channel === CHANNEL.stdin) return { kind: "stdin", data: content };
  if (channel === CHANNEL.resize) return parseResize(content);
  if (channel === CHANNEL.close && protocol === "v5.channel.k8s.io") {
    if (content.length !== 1)
      throw new MessageError(CLOSE.invalidPayload, "a close message holds one channel number");
    // Outputs are not the client's to end.
    return content[0] === CHANNEL.stdin ? { kind: "endOfStdin" } : { kind: "nothing" };
  }
  throw new MessageError(CLOSE.protocolError, `channel ${channel} is not for clients`);
}

function parseResize(content: Buffer): ClientMessage {
  let size: { Width?: unknown; Height?: unknown } | null;
  try {
    size = JSON.parse(content.toString()) as typeof size;
  } catch {
    throw new MessageError(CLOSE.invalidPayload, "a window size must be JSON");
  }
  const { Width: columns, Height: rows } = size ?? {};
  if (!isSize(columns) || !isSize(rows))
    throw new MessageError(CLOSE.invalidPayload, "a window size has Width and Height from 0 to 65535");
  // A terminal that has no size has nothing to say.
  return columns === 0 || rows === 0 ? { kind: "nothing" } : { kind: "resize", columns, rows };
}

/** As the kernel's struct winsize holds it. */
function isSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff;
}

/** A message on `channel`. */
export function encodeMessage(channel: number, content: Uint8Array | string): Buffer {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const message = Buffer.allocUnsafe(1 + bytes.length);
  message[0] = channel;
  message.set(bytes, 1);
  return message;
}

type CommandStatus = StatusBody & { metadata: object };

/** The Status that ends a session: success, the exit code, or why the command could not be run. */
export function statusOfResult({ code, message }: ExecResult): CommandStatus {
  if (message !== undefined)
    return failure(
      "InternalError",
      `Internal error occurred: error executing command in container: ${message}`,
      500,
    );
  if (code === 0) return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" };
  return {
    ...failure("NonZeroExitCode", `command terminated with exit code ${code}`),
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}

/** A Status of failure. */
export function failure(reason: string, message: string, code?: number): CommandStatus {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message,
    reason,
    ...(code === undefined ? {} : { code }),
  };
}
