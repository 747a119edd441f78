/**
 * What a node may write of the objects that authorize() lets it write at all: its own Node, Lease and pods'
 * status, and Events that it reports itself. In IPAM blocks of others a node may change only its own
 * allocations; that rule is `mayWriteBlock`, given by ipam's side. Pure.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import { forbidden } from "../errors.js";
import type { Admission, AdmissionRequest } from "../verbs/Hooks.js";
import { nodeNameOf } from "./authorize.js";

/** Why `node` may not write this block; undefined where it may. `old` undefined: create; `object` undefined: delete. */
export type BlockRule = (
  node: string,
  object: KubeObject | undefined,
  old: KubeObject | undefined,
) => string | undefined;

type Spec = { spec?: { nodeName?: string } };

export function nodeRestriction(mayWriteBlock: BlockRule): Admission {
  return (request) => {
    const node = nodeNameOf(request.user);
    if (node === undefined) return;
    const why = refusal(node, request, mayWriteBlock);
    if (why === undefined) return;
    const name = (request.object ?? request.old)?.metadata.name ?? "";
    throw forbidden(request.definition, name, why);
  };
}

function refusal(node: string, request: AdmissionRequest, mayWriteBlock: BlockRule): string | undefined {
  const { definition, object, old, operation } = request;
  const name = (object ?? old)?.metadata.name;
  switch (`${definition.group}/${definition.plural}`) {
    case "/nodes":
      return name === node ? undefined : `node "${node}" is not allowed to modify node "${name}"`;
    case "coordination.k8s.io/leases":
      return name === node && (object ?? old)?.metadata.namespace === "kube-node-lease"
        ? undefined
        : `can only access node lease with the same name as the requesting node`;
    case "/pods": {
      const bound = ((old ?? object) as Spec | undefined)?.spec?.nodeName;
      return bound === node
        ? undefined
        : `node "${node}" can only ${operation === "DELETE" ? "delete pods" : "update pod status for pods"} with spec.nodeName set to itself`;
    }
    case "podwire.dev/ipamblocks":
      return mayWriteBlock(node, object, old);
    default:
      return undefined;
  }
}
