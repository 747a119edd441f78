/** kubeconfig files. Pure. */
import { stringify } from "yaml";

export interface KubeconfigFields {
  server: string;
  caCertificate: string;
  user: string;
  certificate: string;
  key: string;
}

/** Text of a kubeconfig with one cluster, one user and one context, certificates included. */
export function kubeconfig({ server, caCertificate, user, certificate, key }: KubeconfigFields): string {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        { name: "podwire", cluster: { server, "certificate-authority-data": base64(caCertificate) } },
      ],
      users: [
        {
          name: user,
          user: { "client-certificate-data": base64(certificate), "client-key-data": base64(key) },
        },
      ],
      contexts: [{ name: `${user}@podwire`, context: { cluster: "podwire", user } }],
      "current-context": `${user}@podwire`,
    },
    { lineWidth: 0 },
  );
}
