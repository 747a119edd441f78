/** A watch as a stream of JSON lines, with bookmarks and an end. */
import type { ServerResponse } from "node:http";
import type { KubeObject } from "../../kube/KubeApi.js";
import { isExpired } from "../../kube/KubeError.js";
import { statusOf } from "../errors.js";
import type { ResourceDefinition } from "../resource.js";
import type { Verbs, WatchRequest } from "../verbs/Verbs.js";
import { bookmark, type Form, represent } from "./representation.js";

const BOOKMARK_INTERVAL = 60_000;
/** Without timeoutSeconds a watch ends after 30 to 60 minutes, not all at once (kube-apiserver's default). */
export const MIN_REQUEST_TIMEOUT = 1800;
/** A client that reads so slowly has to begin anew. */
const MAX_BACKLOG = 32 * 1024 * 1024;

/** Text of each object, made once for all watchers that want it as it is. */
const texts = new WeakMap<KubeObject, string>();

function textOf(object: KubeObject): string {
  const known = texts.get(object);
  if (known !== undefined) return known;
  const text = JSON.stringify(object);
  texts.set(object, text);
  return text;
}

/** Serves until the client goes or the time is over. Throws, before anything is sent, where the request is wrong. */
export function serveWatch(
  verbs: Verbs,
  definition: ResourceDefinition,
  request: WatchRequest,
  form: Form,
  response: ServerResponse,
  options: { bookmarks: boolean; timeoutSeconds: number; minRequestTimeout: number },
): void {
  let columns = true;
  const held: string[] = [];
  let started = false;
  const send = (line: string) => {
    if (!started) return void held.push(line);
    response.write(line);
    if (response.writableLength > MAX_BACKLOG) response.destroy();
  };
  const begin = () =>
    verbs.watch(definition, request, {
      event: (type, object) => {
        const text =
          form.as === "object"
            ? textOf(object)
            : JSON.stringify(represent(definition, object, form, new Date(), columns));
        columns = false;
        send(`{"type":"${type}","object":${text}}\n`);
      },
    });
  let stop: () => void;
  try {
    stop = begin();
  } catch (error) {
    if (!isExpired(error)) throw error;
    // As Kubernetes: a watch from too long ago begins, and says so in its stream.
    response.writeHead(200, { "Content-Type": "application/json" });
    return void response.end(`${JSON.stringify({ type: "ERROR", object: statusOf(error) })}\n`);
  }
  response.writeHead(200, {
    "Content-Type":
      form.as === "object" ? "application/json" : `application/json;as=${form.as};v=v1;g=meta.k8s.io`,
    "Cache-Control": "no-cache, private",
  });
  response.flushHeaders();
  started = true;
  for (const line of held.splice(0)) send(line);
  const mark = () => {
    const object = bookmark(definition, String(verbs.store.revision), form);
    if (options.bookmarks) send(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
  };
  const bookmarks = setInterval(mark, BOOKMARK_INTERVAL);
  const seconds =
    options.timeoutSeconds > 0 ? options.timeoutSeconds : options.minRequestTimeout * (1 + Math.random());
  const end = setTimeout(() => {
    mark();
    response.end();
  }, seconds * 1000);
  response.on("close", () => {
    stop();
    clearInterval(bookmarks);
    clearTimeout(end);
  });
}
