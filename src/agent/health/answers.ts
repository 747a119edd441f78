/**
 * What health servers answer, byte for byte as kube-proxy does (pkg/proxy/healthcheck): load
 * balancers and people read it. Pure.
 */
import type { HealthCheckConfig } from "../../model/AgentConfig.js";
import type { ProxyHealthState } from "./ProxyHealth.js";

export interface HealthAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

const JSON_HEADERS = { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff" };

/** Of /healthz: 503 where the dataplane is late, or where the node is going to be removed. */
export function healthz({ healthy, lastUpdated, currentTime, nodeEligible }: ProxyHealthState): HealthAnswer {
  const times = `"lastUpdated": "${goTime(lastUpdated)}","currentTime": "${goTime(currentTime)}"`;
  const body = `{${times}, "nodeEligible": ${nodeEligible}}`;
  return { status: healthy && nodeEligible ? 200 : 503, headers: JSON_HEADERS, body };
}

/** Of /livez: 503 where the dataplane is late, whatever becomes of the node. */
export function livez({ healthy, lastUpdated, currentTime }: ProxyHealthState): HealthAnswer {
  const body = `{"lastUpdated": "${goTime(lastUpdated)}","currentTime": "${goTime(currentTime)}"}`;
  return { status: healthy ? 200 : 503, headers: JSON_HEADERS, body };
}

/** Of a Service's healthCheckNodePort: 200 where it has endpoints here that can be reached. */
export function serviceHealth(check: HealthCheckConfig, serviceProxyHealthy: boolean): HealthAnswer {
  const { namespace, name, localEndpoints } = check;
  return {
    status: localEndpoints > 0 && serviceProxyHealthy ? 200 : 503,
    headers: { ...JSON_HEADERS, "X-Load-Balancing-Endpoint-Weight": String(localEndpoints) },
    body: JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy }, null, "\t"),
  };
}

/** Of any path that there is not, as Go's http.NotFound. */
export const NOT_FOUND: HealthAnswer = {
  status: 404,
  headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" },
  body: "404 page not found\n",
};

/** As Go prints a time.Time in UTC; its zero value for null. */
function goTime(date: Date | null): string {
  if (date === null) return "0001-01-01 00:00:00 +0000 UTC";
  const [day, time] = date.toISOString().split("T");
  // Go leaves out trailing zeros of the fraction.
  return `${day} ${time!.replace("Z", "").replace(/\.?0+$/, fractionOnly)} +0000 UTC`;
}

/** Zeros of whole seconds ("10:20:00") are no fraction and stay. */
function fractionOnly(zeros: string, at: number, time: string): string {
  return time.lastIndexOf(".", at) >= 0 || zeros.startsWith(".") ? "" : zeros;
}
