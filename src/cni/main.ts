#!/usr/bin/env node
/**
 * The CNI plugin that a container runtime calls for each pod: passes the call on to the node's agent by its
 * socket and prints what comes of it. Knows nothing of interfaces; loads as little as possible, since pods
 * wait for it. Exit status 0, or 1 with an error of the specification on standard output.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ask } from "../agent/StatusServer.js";
import type { CniAttached, CniTopic } from "../model/cni.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";
import {
  type Call,
  CniError,
  CODES,
  errorResult,
  parseCall,
  resultOf,
  VERSIONS,
  versionResult,
} from "./protocol.js";

const SOCKET = "cni.sock";
/** A kubelet gives a sandbox two minutes. */
const PATIENCE_MS = 90_000;

const TOPICS: Record<Exclude<Call["command"], "VERSION">, CniTopic> = {
  ADD: "add",
  DEL: "del",
  CHECK: "check",
  GC: "gc",
  STATUS: "ready",
};

/** What is printed; null for nothing. Rejects with a CniError. */
async function carryOut({ command, version, stateDir, request }: Call): Promise<object | null> {
  if (command === "VERSION") return versionResult(VERSIONS.includes(version) ? version : VERSIONS.at(-1)!);
  try {
    const path = join(stateDir, SOCKET);
    const answer = await ask<CniAttached, CniTopic>(path, TOPICS[command], { ...request }, PATIENCE_MS);
    return command === "ADD" ? resultOf(version, answer) : null;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const away = code === "ENOENT" || code === "ECONNREFUSED";
    if (command === "STATUS") throw new CniError(CODES.notAvailable, "podwire's agent is not ready", message);
    if (away) throw new CniError(CODES.tryAgainLater, "podwire's agent does not run (yet)", message);
    throw new CniError(CODES.refused, message);
  }
}

let version = VERSIONS.at(-1)!;
try {
  const call = parseCall(process.env, readFileSync(0, "utf8"), DEFAULT_STATE_DIR);
  if (call.command !== "VERSION") version = call.version;
  const result = await carryOut(call);
  if (result !== null) process.stdout.write(`${JSON.stringify(result)}\n`);
} catch (error) {
  if (!(error instanceof CniError)) throw error;
  process.stdout.write(`${JSON.stringify(errorResult(version, error))}\n`);
  process.exitCode = 1;
}
