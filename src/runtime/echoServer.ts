/**
 * The program of the image podwire/echo: answers every HTTP request with who answered whom, as JSON
 * where the client accepts that, else as text. Runs by itself inside a container; imports nothing of ours.
 *
 * Environment: PORT (8080), POD_NAME (the host name), NODE_NAME.
 */
import { createServer, type IncomingMessage } from "node:http";
import { hostname } from "node:os";

/** Most of a request's body that is sent back, in bytes. */
const MOST_BODY = 65_536;

const { PORT = "8080", POD_NAME = hostname(), NODE_NAME = "" } = process.env;

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    if (length < MOST_BODY) chunks.push(chunk.subarray(0, MOST_BODY - length));
    length += chunk.length;
  }
  return Buffer.concat(chunks).toString("utf8");
}

const server = createServer((request, response) => {
  void bodyOf(request)
    .then((body) => {
      const { method, url, headers, socket } = request;
      const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
      const client = `${remoteAddress.replace(/^::ffff:/, "")}:${remotePort}`;
      const address = `${localAddress.replace(/^::ffff:/, "")}:${localPort}`;
      const told = {
        pod: POD_NAME,
        node: NODE_NAME,
        address,
        client,
        request: { method, path: url, headers, body },
      };
      const json = headers.accept?.includes("application/json") === true;
      response.setHeader("content-type", json ? "application/json" : "text/plain; charset=utf-8");
      response.end(
        json
          ? `${JSON.stringify(told)}\n`
          : `pod ${POD_NAME}\nnode ${NODE_NAME}\naddress ${address}\nclient ${client}\nrequest ${method} ${url}\n`,
      );
    })
    .catch(() => response.destroy());
});

server.listen(Number(PORT), () => process.stdout.write(`listening on ${PORT}\n`));
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
