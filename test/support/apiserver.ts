/** API servers of a test: on 127.0.0.1, any port, in a directory of their own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiServer, type ApiServerOptions } from "../../src/apiserver/ApiServer.js";
import { loadSchemas } from "../../src/apiserver/openapi/index.js";
import { RESOURCES } from "../../src/apiserver/resources/index.js";
import { Store } from "../../src/apiserver/storage/Store.js";
import { Verbs, type VerbsOptions } from "../../src/apiserver/verbs/Verbs.js";

export const schemas = loadSchemas();

export function temporaryDirectory(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "podwire-api-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function startApiServer(dataDir: string, options: Partial<ApiServerOptions> = {}): Promise<ApiServer> {
  return ApiServer.start({
    dataDir,
    address: "127.0.0.1",
    port: 0,
    serviceRange: "10.152.183.0/24",
    definitions: RESOURCES,
    schemas,
    ...options,
  });
}

export function openVerbs(dataDir: string, options: Partial<VerbsOptions> = {}): Verbs {
  return new Verbs({ store: Store.open(dataDir), definitions: RESOURCES, schemas, ...options });
}
