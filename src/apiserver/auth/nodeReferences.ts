/**
 * Which Secrets and ConfigMaps a pod's spec refers to. A node may read those that its own pods need, and
 * no others (Kubernetes' node authorizer, plugin/pkg/auth/authorizer/node, and pkg/api/v1/pod/util.go
 * VisitPodSecretNames, VisitPodConfigmapNames). Pure.
 */
import type * as core from "kubernetes-types/core/v1.js";
import type { KubeObject } from "../../kube/KubeApi.js";

export type ReferredKind = "secrets" | "configmaps";

/** Whether one of the pods refers to the object, which is in their namespace. */
export function isReferred(pods: readonly KubeObject[], kind: ReferredKind, name: string): boolean {
  return pods.some((pod) => {
    const { spec } = pod as { spec?: core.PodSpec };
    return spec !== undefined && namesIn(spec, kind).includes(name);
  });
}

/** Names of the objects of a kind that a pod's containers and volumes refer to; repeated as they are. */
function namesIn(spec: core.PodSpec, kind: ReferredKind): (string | undefined)[] {
  const secrets = kind === "secrets";
  const containers: Pick<core.Container, "env" | "envFrom">[] = [
    ...(spec.initContainers ?? []),
    ...spec.containers,
    ...(spec.ephemeralContainers ?? []),
  ];
  const variables = containers.flatMap(({ env = [], envFrom = [] }) => [
    ...env.map(({ valueFrom }) => (secrets ? valueFrom?.secretKeyRef : valueFrom?.configMapKeyRef)?.name),
    ...envFrom.map(({ secretRef, configMapRef }) => (secrets ? secretRef : configMapRef)?.name),
  ]);
  const volumes = (spec.volumes ?? []).flatMap(({ secret, configMap, projected }) => [
    secrets ? secret?.secretName : configMap?.name,
    ...(projected?.sources ?? []).map((each) => (secrets ? each.secret : each.configMap)?.name),
  ]);
  const pulls = secrets ? (spec.imagePullSecrets ?? []).map(({ name }) => name) : [];
  return [...variables, ...volumes, ...pulls];
}
