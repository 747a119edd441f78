/**
 * One probe, once: httpGet and tcpSocket from the node as a kubelet does, exec inside the container.
 * Says what a kubelet says (pkg/probe). Never rejects.
 */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type * as core from "kubernetes-types/core/v1.js";
import type { ExecOptions, ExecSession } from "./PodAccess.js";

export interface ProbeOutcome {
  ok: boolean;
  /** Why not, or what the probe said. */
  message: string;
}

export interface ProbeTarget {
  podIP: string;
  /** The container's ports, for those that are given by name. */
  ports: readonly core.ContainerPort[];
  exec: (options: ExecOptions, signal: AbortSignal) => Promise<ExecSession>;
}

const MOST_OUTPUT = 10_240;

export function runProbe(probe: core.Probe, target: ProbeTarget): Promise<ProbeOutcome> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  if (probe.httpGet !== undefined) return httpProbe(probe.httpGet, target, timeoutMs);
  if (probe.tcpSocket !== undefined) {
    const port = portOf(probe.tcpSocket.port, target.ports);
    return tcpProbe(probe.tcpSocket.host ?? target.podIP, port, timeoutMs);
  }
  if (probe.exec !== undefined) return execProbe(probe.exec.command ?? [], target, timeoutMs);
  return Promise.resolve({ ok: false, message: "the probe has no handler that is supported" });
}

/** A number, or the number of the container's port of that name; NaN where there is none. */
export function portOf(port: number | string, ports: readonly core.ContainerPort[]): number {
  const named = ports.find(({ name }) => name === port)?.containerPort;
  return named ?? Number(port);
}

function httpProbe(
  { host, path = "/", port, scheme = "HTTP", httpHeaders = [] }: core.HTTPGetAction,
  { podIP, ports }: ProbeTarget,
  timeoutMs: number,
): Promise<ProbeOutcome> {
  const l4Port = portOf(port, ports);
  if (!(l4Port > 0 && l4Port < 65_536)) return Promise.resolve(noPort(port));
  const address = host || podIP;
  const url = `${scheme.toLowerCase()}://${address}:${l4Port}${path.startsWith("/") ? "" : "/"}${path}`;
  const headers: Record<string, string> = {
    "user-agent": "kube-probe/1.32",
    accept: "*/*",
    connection: "close",
  };
  for (const { name, value } of httpHeaders) headers[name.toLowerCase()] = value;
  return new Promise((resolve) => {
    // As a kubelet: a certificate is not looked at, a redirect is an answer.
    const options = { headers, rejectUnauthorized: false, agent: false as const };
    const request = (scheme === "HTTPS" ? httpsRequest : httpRequest)(url, options, (response) => {
      const { statusCode: code = 0 } = response;
      finish(
        code >= 200 && code < 400,
        `HTTP probe ${code < 400 ? "succeeded" : "failed"} with statuscode: ${code}`,
      );
    });
    const timer = setTimeout(
      () =>
        finish(
          false,
          `Get "${url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
        ),
      timeoutMs,
    );
    const finish = (ok: boolean, message: string) => {
      clearTimeout(timer);
      request.destroy();
      resolve({ ok, message });
    };
    request.on("error", (error) => finish(false, `Get "${url}": ${dialError(error, address, l4Port)}`));
    request.end();
  });
}

function tcpProbe(host: string, port: number, timeoutMs: number): Promise<ProbeOutcome> {
  if (!(port > 0 && port < 65_536)) return Promise.resolve(noPort(port));
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => finish(false, `dial tcp ${host}:${port}: i/o timeout`), timeoutMs);
    const finish = (ok: boolean, message: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ ok, message });
    };
    socket.on("connect", () => finish(true, ""));
    socket.on("error", (error) => finish(false, dialError(error, host, port)));
  });
}

async function execProbe(command: string[], { exec }: ProbeTarget, timeoutMs: number): Promise<ProbeOutcome> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    const options = { command, stdin: false, stdout: true, stderr: true, tty: false };
    const session = await exec(options, abort.signal);
    let output = "";
    for (const stream of [session.stdout, session.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        if (output.length < MOST_OUTPUT) output += text;
      });
    const { code, message } = await session.ended;
    if (abort.signal.aborted) return { ok: false, message: `command "${command.join(" ")}" timed out` };
    return { ok: code === 0, message: message ?? output };
  } catch (error) {
    return { ok: false, message: (error as Error).message };
  } finally {
    clearTimeout(timer);
  }
}

function noPort(port: number | string): ProbeOutcome {
  return { ok: false, message: `couldn't find port: ${port}` };
}

function dialError(error: Error, host: string, port: number): string {
  const reasons: Record<string, string> = {
    ECONNREFUSED: "connection refused",
    EHOSTUNREACH: "no route to host",
    ENETUNREACH: "network is unreachable",
    ETIMEDOUT: "connection timed out",
    ECONNRESET: "connection reset by peer",
  };
  const reason = reasons[(error as NodeJS.ErrnoException).code ?? ""];
  return reason === undefined ? error.message : `dial tcp ${host}:${port}: connect: ${reason}`;
}
