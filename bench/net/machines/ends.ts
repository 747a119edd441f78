/**
 * The ends of both variants on two nodes of a cluster, and their removal.
 *
 *   podwire   a pod of the cluster on each node
 *   kernel    a namespace behind a veth pair on each node, routed to a vxlan device of the kernel's: no
 *             learning, static FDB and neighbours. VNI, port and addresses (198.18.0.0/15, for benchmarks by
 *             RFC 2544) are others than the cluster's, and forwarding is on for its own links only.
 */

import { TestbedError } from "../../testbed/TestbedError.js";
import type { Machine } from "./Machine.js";
import { type End, UNIT_PREFIX, WORK_DIRECTORY } from "./Path.js";

const KUBECTL = "KUBECONFIG=/var/lib/podwire/apiserver/admin.kubeconfig kubectl";
/** Any that listens where no server of ours does. */
const IMAGE = "nginx";

const NETNS = "podwire-bench";
const VETH = "pwbench0";
const VXLAN = "pwbench1";
const KERNEL_VNI = 4097;
const KERNEL_PORT = 8472;
/** VXLAN, UDP, IPv4 and the inner Ethernet header. */
const OVERHEAD = 50;

/** What the kernel's side of one machine is made of. */
interface KernelSide {
  /** The node's address on the LAN. */
  address: string;
  block: string;
  tunnelAddress: string;
  podAddress: string;
  vtepMac: string;
}

/** A node of the cluster, with its machine. */
export interface Node {
  machine: Machine;
  /** On the LAN; dotted decimal. */
  address: string;
}

/** The node of that name, as the cluster knows it. */
export async function findNode(master: Machine, machine: Machine): Promise<Node> {
  const path = `{.status.addresses[?(@.type=="InternalIP")].address}`;
  const said = await master.run(`${KUBECTL} get node ${machine.name} -o jsonpath='${path}'`);
  const address = said.trim().split(" ")[0]!;
  if (address === "") throw new TestbedError(`node ${machine.name} has no address`);
  return { machine, address };
}

/** A pod on each node, and the namespaces that they are in. */
export async function makePods(master: Machine, nodes: readonly [Node, Node]): Promise<[End, End]> {
  const items = nodes.map(({ machine }) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: podOf(machine) },
    spec: {
      nodeName: machine.name,
      terminationGracePeriodSeconds: 1,
      containers: [{ name: "bench", image: IMAGE }],
    },
  }));
  const names = nodes.map(({ machine }) => `pod/${podOf(machine)}`).join(" ");
  const manifest = JSON.stringify({ apiVersion: "v1", kind: "List", items });
  await master.run(`${KUBECTL} apply -f - << 'END'
${manifest}
END
${KUBECTL} wait --for=condition=Ready ${names} --timeout=120s`);
  const end = async ({ machine }: Node): Promise<End> => {
    const path = "{.status.podIP}";
    const address = (await master.run(`${KUBECTL} get pod ${podOf(machine)} -o jsonpath='${path}'`)).trim();
    const netns = await machine.run(
      `for each in /run/netns/*; do
  if nsenter --net=$each ip -o -4 address | grep -qF ' ${address}/'; then echo $each; exit 0; fi
done
echo "no namespace has ${address}" >&2
exit 1`,
    );
    return { machine, netns: netns.trim(), address };
  };
  return [await end(nodes[0]), await end(nodes[1])];
}

/** Kernel vxlan devices between the nodes, and a namespace behind each. */
export async function makeKernelEnds([client, server]: readonly [Node, Node]): Promise<[End, End]> {
  const sides = [kernelSide(1, client), kernelSide(2, server)] as const;
  const end = async (node: Node, side: KernelSide, other: KernelSide): Promise<End> => {
    await node.machine.run(kernelScript(side, other));
    return { machine: node.machine, netns: `/run/netns/${NETNS}`, address: side.podAddress };
  };
  return [await end(client, sides[0], sides[1]), await end(server, sides[1], sides[0])];
}

function kernelSide(number: number, { address }: Node): KernelSide {
  return {
    address,
    block: `198.18.${number}.0/24`,
    tunnelAddress: `198.18.${number}.1`,
    podAddress: `198.18.${number}.2`,
    vtepMac: `66:00:00:00:00:0${number}`,
  };
}

function kernelScript(side: KernelSide, other: KernelSide): string {
  return `link=$(ip -o -4 address show to ${side.address} | awk '{print $2; exit}')
mtu=$(($(cat /sys/class/net/$link/mtu) - ${OVERHEAD}))
ip netns add ${NETNS}
in_pod() { ip -n ${NETNS} "$@"; }
ip link add ${VETH} type veth peer name eth0 netns ${NETNS}
ip link set ${VETH} mtu $mtu up
in_pod link set lo up
in_pod link set eth0 mtu $mtu up
in_pod address add ${side.podAddress}/32 dev eth0
in_pod route add 169.254.1.1 dev eth0 scope link
in_pod route add default via 169.254.1.1
in_pod neigh replace 169.254.1.1 lladdr $(cat /sys/class/net/${VETH}/address) dev eth0
ip route add ${side.podAddress}/32 dev ${VETH}
ip link add ${VXLAN} address ${side.vtepMac} type vxlan id ${KERNEL_VNI} dstport ${KERNEL_PORT} local ${side.address} dev $link nolearning
ip address add ${side.tunnelAddress}/32 dev ${VXLAN}
ip link set ${VXLAN} mtu $mtu up
ip route add ${other.block} via ${other.tunnelAddress} dev ${VXLAN} onlink
ip neigh add ${other.tunnelAddress} lladdr ${other.vtepMac} dev ${VXLAN}
bridge fdb add ${other.vtepMac} dev ${VXLAN} dst ${other.address}
for each in ${VETH} ${VXLAN}; do
  echo 1 > /proc/sys/net/ipv4/conf/$each/forwarding
  echo 2 > /proc/sys/net/ipv4/conf/$each/rp_filter
done`;
}

/** Removes what this or an earlier run has made on the nodes; absent things are passed over. */
export async function clear(master: Machine, machines: readonly Machine[]): Promise<void> {
  for (const machine of machines)
    await machine.run(`systemctl stop '${UNIT_PREFIX}*'
for each in ${VXLAN} ${VETH}; do
  if [ -e /sys/class/net/$each ]; then ip link delete $each; fi
done
if [ -e /run/netns/${NETNS} ]; then ip netns delete ${NETNS}; fi
rm -rf ${WORK_DIRECTORY}`);
  const names = machines.map(podOf).join(" ");
  await master.run(`${KUBECTL} delete pod ${names} --ignore-not-found --timeout=60s`);
}

function podOf({ name }: Machine): string {
  return `podwire-bench-${name}`;
}
