/** Tables before the first image: no port has a role, so every frame is dropped and counted. */
import { NO_ANNOUNCEMENT, NO_BFD, type TableInput } from "../tables/TableInput.js";

export const EMPTY_TABLES: TableInput = {
  node: {
    tunnelAddress: 0,
    underlayAddress: 0,
    mac: { hi: 0, lo: 0 },
    vni: -1,
    vxlanPort: 0,
    mtu: 1500,
    nodePort: -1,
    tunnelPort: -1,
    icmpPort: -1,
    reassemblyPort: -1,
    gsoPort: -1,
    gsoMac: { hi: 0, lo: 0 },
  },
  pools: [],
  serviceRanges: [],
  nodePortAddresses: [],
  ports: [],
  vteps: [],
  announce: NO_ANNOUNCEMENT,
  bfd: NO_BFD,
  routes: [],
  egress: [],
  egressPorts: { first: 0, last: 0 },
};
