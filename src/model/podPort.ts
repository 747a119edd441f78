/** What the API server and the nodes' pod ports know of each other. Plain values. */

/** TCP port on which a node serves pods' logs and commands: a kubelet's. */
export const POD_PORT = 10250;

/** Who the API server is towards nodes. The group is nobody else's and gives no right to the API. */
export const APISERVER_CLIENT = {
  commonName: "kube-apiserver-kubelet-client",
  organization: "system:kubelet-api-admin",
} as const;
