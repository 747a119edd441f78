/**
 * What the API server only passes on: logs of pods and commands in them. It finds container, node and
 * port, asks the node, and copies bytes; of the remote command protocol it knows nothing. Each side is
 * read only as fast as the other takes it, and the end of one side ends the other.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { KubeError } from "../../kube/KubeError.js";
import type { Node, Pod } from "../../kube/types.js";
import { badRequest, methodNotAllowed } from "../errors.js";
import type { Verbs } from "../verbs/Verbs.js";
import type { NodeClient } from "./NodeClient.js";
import { execLocation, logLocation } from "./podLocation.js";
import type { Target } from "./target.js";

/** Of a refusal's text. */
const MOST_TEXT = 64 * 1024;

/** Subresources of pods that are connections, or that only a container runtime has; why not, where not. */
const SUBRESOURCES: Record<string, string | null> = {
  log: null,
  exec: null,
  attach:
    "attaching to a running container is not supported by this server: use kubectl exec, or kubectl logs -f",
  portforward:
    "port forwarding is not supported by this server: pods are reached at their own addresses, or through a Service",
  proxy:
    "the proxy is not supported by this server: pods are reached at their own addresses, or through a Service",
  ephemeralcontainers: "ephemeral containers are not supported by this server: use kubectl exec",
  resize: "resizing a running pod is not supported by this server",
};

/** A connection on which the client wants to speak another protocol. */
export interface Upgrade {
  socket: Socket;
  /** What came on it already. */
  head: Buffer;
}

export interface PodCall {
  request: IncomingMessage;
  response: ServerResponse;
  query: URLSearchParams;
  upgrade: Upgrade | undefined;
}

export class PodConnections {
  constructor(
    private readonly verbs: Verbs,
    private readonly nodes: NodeClient,
  ) {}

  /** Whether a request is for here. */
  static serves({ definition, subresource }: Target): boolean {
    return (
      definition.group === "" && definition.plural === "pods" && Object.hasOwn(SUBRESOURCES, subresource)
    );
  }

  /** Answers a request that is authorized. Rejects with a KubeError as long as nothing was answered. */
  async serve(target: Target, call: PodCall): Promise<void> {
    const { definition, namespace, name, subresource } = target;
    const pod = this.verbs.get(definition, namespace, name!) as Pod;
    const why = SUBRESOURCES[subresource];
    if (why)
      throw new KubeError(501, "NotImplemented", `pods "${name}": ${why}`, { name: name!, kind: "pods" });
    return subresource === "log" ? this.log(pod, call) : this.exec(pod, call);
  }

  private async log(pod: Pod, { request, response, query, upgrade }: PodCall): Promise<void> {
    if (upgrade !== undefined) throw badRequest("a log takes no upgrade");
    if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed();
    const location = logLocation(pod, query);
    const begin = () =>
      response.writeHead(200, { "Content-Type": "text/plain", "Cache-Control": "no-cache, private" });
    if (location === null) return void begin().end();
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const { answer } = await this.nodes.open(
      this.node(location.node),
      { method: "GET", path: location.path },
      gone.signal,
    );
    if (answer.statusCode !== 200) throw await refusalOf(answer, pod);
    begin();
    // A log that is followed may have nothing to say for long.
    response.flushHeaders();
    pipeline(answer, response, (error) => {
      if (error) response.destroy();
    });
  }

  private async exec(pod: Pod, { request, response, query, upgrade }: PodCall): Promise<void> {
    const location = execLocation(pod, query);
    if (upgrade === undefined) throw badRequest("Upgrade request required");
    const { socket } = upgrade;
    const gone = new AbortController();
    socket.on("close", () => gone.abort());
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => FORWARDED.test(name)),
    ) as Record<string, string>;
    const { answer, upgraded } = await this.nodes.open(
      this.node(location.node),
      { method: request.method!, path: location.path, headers },
      gone.signal,
    );
    if (upgraded === undefined) throw await refusalOf(answer, pod);
    response.detachSocket(socket);
    join(upgrade, upgraded, answer);
  }

  private node(name: string): Node {
    return this.verbs.get(this.verbs.definition("", "nodes")!, undefined, name) as Node;
  }
}

/** What an upgrade is about; nothing of what the client is to us. */
const FORWARDED = /^(connection|upgrade|sec-websocket-.*|x-stream-protocol-version)$/;

/** Tells the client of the switch, and makes one connection of two. */
function join(client: Upgrade, node: { socket: Duplex; head: Buffer }, answer: IncomingMessage): void {
  const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}`];
  for (let i = 0; i < answer.rawHeaders.length; i += 2)
    lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
  client.socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  if (node.head.length > 0) client.socket.write(node.head);
  if (client.head.length > 0) node.socket.write(client.head);
  for (const socket of [client.socket, node.socket]) socket.on("error", () => socket.destroy());
  client.socket.pipe(node.socket).pipe(client.socket);
  // A client that is gone waits for nothing: a node that reads nothing just now must notice it all the same.
  client.socket.on("close", () => node.socket.destroy());
  // What is on its way to the client still arrives, unless it is cut off anyway.
  node.socket.on("close", () => {
    if (!node.socket.readableEnded) client.socket.destroy();
  });
}

/** A node's refusal, in plain text, as a Status. */
async function refusalOf(answer: IncomingMessage, { metadata }: Pod): Promise<KubeError> {
  let text = "";
  answer.setEncoding("utf8");
  for await (const piece of answer as AsyncIterable<string>) {
    text += piece;
    if (text.length > MOST_TEXT) break;
  }
  answer.destroy();
  const details = { name: metadata.name!, kind: "pods" };
  switch (answer.statusCode) {
    case 400:
      return badRequest(text);
    case 404:
      return new KubeError(404, "NotFound", text, details);
    default:
      return new KubeError(
        500,
        "InternalError",
        `Internal error occurred: the node answered ${answer.statusCode}: ${text}`,
        details,
      );
  }
}
