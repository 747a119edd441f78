/** Names of podwire's own annotations on Kubernetes objects. */

/** Node: MAC of its VTEP. */
export const VTEP_MAC = "podwire.dev/vtep-mac";
/** Node: address of its podwire0. */
export const TUNNEL_ADDRESS = "podwire.dev/tunnel-address";
/** Node: address that VXLAN datagrams to it go to. */
export const UNDERLAY_ADDRESS = "podwire.dev/underlay-address";
/** Node: UDP port of VXLAN there. */
export const VXLAN_PORT = "podwire.dev/vxlan-port";
/** Node: MAC of the interface on which its agent announces load-balancer addresses. */
export const LAN_MAC = "podwire.dev/lan-mac";
/** Node: name of that interface. */
export const LAN_INTERFACE = "podwire.dev/lan-interface";
/** Node: "true" where podwire's agent is what a kubelet is elsewhere. */
export const REGISTERED = "podwire.dev/registered";
