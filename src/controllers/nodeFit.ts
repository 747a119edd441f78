/**
 * Whether a pod may run on a node: selectors, node affinity, taints. Pure; shared by placement,
 * DaemonSets and eviction.
 */
import type { Node, Pod, Taint, Toleration } from "../kube/types.js";

type PodSpec = NonNullable<Pod["spec"]>;
type NodeSelectorTerm = NonNullable<
  NonNullable<
    NonNullable<
      NonNullable<PodSpec["affinity"]>["nodeAffinity"]
    >["requiredDuringSchedulingIgnoredDuringExecution"]
  >["nodeSelectorTerms"]
>[number];

interface Requirement {
  key: string;
  operator: string;
  values?: string[];
}

/** spec.nodeSelector and the required node affinity. */
export function matchesNode(spec: PodSpec, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {})) if (labels[key] !== value) return false;
  const required = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (!required) return true;
  // Terms are alternatives; what stands within one must all hold; an empty term matches nothing.
  return required.nodeSelectorTerms.some((term) => matchesTerm(term, node));
}

function matchesTerm(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false;
  const labels = node.metadata.labels ?? {};
  return (
    expressions.every((requirement) => holds(requirement, labels[requirement.key])) &&
    fields.every(
      (requirement) => requirement.key === "metadata.name" && holds(requirement, node.metadata.name),
    )
  );
}

function holds({ operator, values = [] }: Requirement, value: string | undefined): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "Lt":
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  if (toleration.operator === "Exists") return true;
  // Equal, which is also the default; a toleration of every key must be Exists.
  return Boolean(toleration.key) && (toleration.value ?? "") === (taint.value ?? "");
}

/** The first taint with one of these effects that nothing tolerates. */
export function untolerated(
  tolerations: readonly Toleration[],
  taints: readonly Taint[],
  ...effects: string[]
): Taint | undefined {
  return taints.find(
    (taint) =>
      effects.includes(taint.effect) && !tolerations.some((toleration) => tolerates(toleration, taint)),
  );
}

/** The one node that a pod's affinity names by metadata.name, as DaemonSets set it. */
export function pinnedNode(spec: PodSpec): string | undefined {
  const terms =
    spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  const names = terms.map(
    (term) =>
      term.matchFields?.find(({ key, operator }) => key === "metadata.name" && operator === "In")?.values,
  );
  const [first] = names;
  if (first?.length !== 1) return undefined;
  return names.every((values) => values?.length === 1 && values[0] === first[0]) ? first[0] : undefined;
}
