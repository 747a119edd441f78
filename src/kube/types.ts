/**
 * Objects as they come from the API: JSON, times as text. The shapes are the published ones
 * (kubernetes-types, generated from Kubernetes' own OpenAPI); metadata is ours, so that each fits
 * KubeObject. Types only.
 */
import type * as apps from "kubernetes-types/apps/v1.js";
import type * as coordination from "kubernetes-types/coordination/v1.js";
import type * as core from "kubernetes-types/core/v1.js";
import type * as discovery from "kubernetes-types/discovery/v1.js";
import type { KubeObject, ObjectMeta } from "./KubeApi.js";

/** The published types call some fields read-only that controllers and nodes write. */
type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A published type with metadata that is always there, and with apiVersion and kind as plain text. */
export type Typed<T> = Mutable<Omit<T, "metadata" | "apiVersion" | "kind">> & {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
};

export type Node = Typed<core.Node>;
export type NodeCondition = core.NodeCondition;
export type Pod = Typed<core.Pod>;
export type PodCondition = core.PodCondition;
export type ContainerStatus = core.ContainerStatus;
export type PodTemplateSpec = core.PodTemplateSpec;
export type Toleration = core.Toleration;
export type Taint = core.Taint;
export type Service = Typed<core.Service>;
export type ServicePort = core.ServicePort;
export type Namespace = Typed<core.Namespace>;
export type Endpoints = Typed<core.Endpoints>;
export type ObjectReference = core.ObjectReference;
export type Event = Typed<core.Event>;
export type ConfigMap = Typed<core.ConfigMap>;
export type Secret = Typed<core.Secret>;
export type EndpointSlice = Typed<discovery.EndpointSlice>;
export type Endpoint = discovery.Endpoint;
export type ControllerRevision = Typed<apps.ControllerRevision>;
export type DaemonSet = Typed<apps.DaemonSet>;
export type Deployment = Typed<apps.Deployment>;
export type ReplicaSet = Typed<apps.ReplicaSet>;
export type Lease = Typed<coordination.Lease>;

/** MetalLB's pool of load-balancer addresses. */
export interface IPAddressPool extends KubeObject {
  spec: {
    /** CIDRs and FIRST-LAST ranges. */
    addresses: string[];
    autoAssign?: boolean;
    avoidBuggyIPs?: boolean;
    serviceAllocation?: {
      priority?: number;
      namespaces?: string[];
      namespaceSelectors?: LabelSelector[];
      serviceSelectors?: LabelSelector[];
    };
  };
  status?: Record<string, unknown>;
}

/** MetalLB's order to announce pools on the LAN. */
export interface L2Advertisement extends KubeObject {
  spec?: {
    ipAddressPools?: string[];
    ipAddressPoolSelectors?: LabelSelector[];
    nodeSelectors?: LabelSelector[];
    serviceSelectors?: LabelSelector[];
    interfaces?: string[];
  };
}

export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}
