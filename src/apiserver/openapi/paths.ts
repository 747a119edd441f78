/**
 * The `paths` part of a group-version's document, made from the registry. kubectl looks here whether
 * the server knows fieldValidation, and whether a kind takes strategic merge patches.
 */
import type { ResourceDefinition } from "../resource.js";
import { SCHEMA_REF } from "./schema.js";

type Verb = "list" | "get" | "post" | "put" | "patch" | "delete" | "deletecollection";

const METHODS: Record<Verb, string> = {
  list: "get",
  get: "get",
  post: "post",
  put: "put",
  patch: "patch",
  delete: "delete",
  deletecollection: "delete",
};

interface Parameter {
  name: string;
  in: "query" | "path";
  description: string;
  required?: true;
  schema: { type: string; uniqueItems: true };
}

function query(name: string, description: string, type = "string"): Parameter {
  return { name, in: "query", description, schema: { type, uniqueItems: true } };
}

function segment(name: string, description: string): Parameter {
  return { name, in: "path", description, required: true, schema: { type: "string", uniqueItems: true } };
}

const PRETTY = query("pretty", "If 'true', then the output is pretty printed.");
const DRY_RUN = query("dryRun", "When present, indicates that modifications should not be persisted: All.");
const FIELD_MANAGER = query("fieldManager", "The name of the actor that is making these changes.");
const FIELD_VALIDATION = query(
  "fieldValidation",
  "What to do with unknown or duplicate fields: Ignore, Warn or Strict.",
);
const LIST = [
  query("allowWatchBookmarks", "Asks for watch events of type BOOKMARK.", "boolean"),
  query("continue", "Token of the previous answer, to go on from there."),
  query("fieldSelector", "A selector to restrict the list of returned objects by their fields."),
  query("labelSelector", "A selector to restrict the list of returned objects by their labels."),
  query("limit", "Maximum number of objects to return.", "integer"),
  query("resourceVersion", "Constraint on what resource versions a request may be served from."),
  query("resourceVersionMatch", "How resourceVersion is applied to list calls."),
  query("sendInitialEvents", "Sends the present objects as events before the watch goes on.", "boolean"),
  query("timeoutSeconds", "Timeout for the list or watch call.", "integer"),
  query("watch", "Watch for changes instead of listing.", "boolean"),
];
const DELETE = [
  DRY_RUN,
  query("gracePeriodSeconds", "The duration in seconds before the object should be deleted.", "integer"),
  query("orphanDependents", "Deprecated: use propagationPolicy.", "boolean"),
  query("propagationPolicy", "Whether and how garbage collection will be performed."),
];
const WRITE = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const FORCE = query("force", "Only for apply patches.", "boolean");

const PARAMETERS: Record<Verb, Parameter[]> = {
  list: LIST,
  get: [],
  post: WRITE,
  put: WRITE,
  patch: [...WRITE, FORCE],
  delete: DELETE,
  deletecollection: [...DELETE, ...LIST],
};

const META_V1 = "io.k8s.apimachinery.pkg.apis.meta.v1";

interface Target {
  resource: ResourceDefinition;
  /** Schema name of the kind that is sent and answered. */
  schema: string;
  kind: { group: string; version: string; kind: string };
  strategic: boolean;
  subresource: string;
  allNamespaces?: boolean;
}

function operation(verb: Verb, target: Target): object {
  const { resource, subresource } = target;
  const where = target.allNamespaces ? "ForAllNamespaces" : "";
  const scope = resource.namespaced && !target.allNamespaces ? "Namespaced" : "";
  const ref = { $ref: SCHEMA_REF + (verb === "list" ? `${target.schema}List` : target.schema) };
  const answer =
    verb === "delete" || verb === "deletecollection" ? { $ref: `${SCHEMA_REF}${META_V1}.Status` } : ref;
  return {
    tags: [`${resource.group === "" ? "core" : resource.group}_${resource.version}`],
    description: `${verb} ${subresource === "" ? "" : `${subresource} of `}${resource.kind}`,
    operationId: `${verb}${capital(resource.group)}${capital(resource.version)}${scope}${resource.kind}${capital(subresource)}${where}`,
    parameters: PARAMETERS[verb],
    ...(verb === "post" || verb === "put"
      ? { requestBody: { content: { "*/*": { schema: ref } }, required: true } }
      : {}),
    ...(verb === "patch" ? { requestBody: { content: patchContent(target), required: true } } : {}),
    ...(verb === "delete" || verb === "deletecollection"
      ? { requestBody: { content: { "*/*": { schema: { $ref: `${SCHEMA_REF}${META_V1}.DeleteOptions` } } } } }
      : {}),
    responses: {
      [verb === "post" ? "201" : "200"]: {
        description: "OK",
        content: { "application/json": { schema: answer } },
      },
    },
    "x-kubernetes-action": verb,
    "x-kubernetes-group-version-kind": target.kind,
  };
}

function patchContent(target: Target): object {
  const body = { schema: { description: "A patch of the object.", type: "object" } };
  return {
    "application/json-patch+json": body,
    "application/merge-patch+json": body,
    ...(target.strategic ? { "application/strategic-merge-patch+json": body } : {}),
  };
}

function capital(text: string): string {
  return text
    .split(/[.-]/)
    .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
    .join("");
}

function pathItem(parameters: Parameter[], verbs: Verb[], target: Target): object {
  const operations = Object.fromEntries(verbs.map((verb) => [METHODS[verb], operation(verb, target)]));
  return { ...operations, parameters: [...parameters, PRETTY] };
}

/** `schemaOf`: name of a kind's schema; `strategic`: takes strategic merge patches. */
export function pathsOf(
  base: string,
  resources: ResourceDefinition[],
  schemaOf: (resource: ResourceDefinition) => string,
  strategic: boolean,
): Record<string, object> {
  const paths: Record<string, object> = {};
  for (const resource of resources) {
    const { group, version, kind } = resource;
    const target: Target = {
      resource,
      schema: schemaOf(resource),
      kind: { group, version, kind },
      strategic,
      subresource: "",
    };
    const name = segment("name", `name of the ${kind}`);
    const namespace = resource.namespaced ? [segment("namespace", "object name and auth scope")] : [];
    const collection = `${base}/${resource.namespaced ? "namespaces/{namespace}/" : ""}${resource.plural}`;
    const item = `${collection}/{name}`;
    if (resource.verbs !== undefined) {
      if (resource.verbs.includes("create")) paths[collection] = pathItem(namespace, ["post"], target);
      continue;
    }
    if (resource.namespaced) {
      paths[`${base}/${resource.plural}`] = pathItem([], ["list"], { ...target, allNamespaces: true });
    }
    paths[collection] = pathItem(namespace, ["list", "post", "deletecollection"], target);
    paths[item] = pathItem([name, ...namespace], ["get", "put", "patch", "delete"], target);
    if (resource.subresources.status) {
      const status = { ...target, subresource: "status" };
      paths[`${item}/status`] = pathItem([name, ...namespace], ["get", "put", "patch"], status);
    }
    if (resource.subresources.scale) {
      const scale = {
        ...target,
        schema: "io.k8s.api.autoscaling.v1.Scale",
        kind: { group: "autoscaling", version: "v1", kind: "Scale" },
        subresource: "scale",
      };
      paths[`${item}/scale`] = pathItem([name, ...namespace], ["get", "put", "patch"], scale);
    }
  }
  return paths;
}
