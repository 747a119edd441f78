/** What the CNI plugin and the agent say to one another on the agent's cni.sock. Plain values. */

/** What the plugin asks for; one for each of CNI's commands that is about the agent. */
export type CniTopic = "add" | "del" | "check" | "gc" | "ready";

/** Which attachment: a container may have several interfaces. */
export interface CniTarget {
  /** CNI_CONTAINERID: the sandbox's. */
  containerId: string;
  /** CNI_IFNAME. */
  interface: string;
}

/** What "add" needs beside it. */
export interface CniAdd extends CniTarget {
  /** CNI_NETNS: path of the sandbox's network namespace. */
  netns: string;
  /** Whose sandbox it is, of CNI_ARGS; null where nobody says. */
  pod: { namespace: string; name: string; uid: string } | null;
}

/** What came of it. */
export interface CniAttached extends CniTarget {
  netns: string;
  /** The pod's IPv4 address. */
  address: string;
  /** Where its default route leads. */
  gateway: string;
  /** Of its interface, aa:bb:cc:dd:ee:ff. */
  mac: string;
  mtu: number;
}
