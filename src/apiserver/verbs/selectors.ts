/** Which objects a list or watch is about: label selector and field selector of a request. */
import type { KubeObject } from "../../kube/KubeApi.js";
import { parseLabelSelector } from "../../kube/selectors.js";
import { badRequest } from "../errors.js";
import type { ResourceDefinition } from "../resource.js";

export type Predicate = (object: KubeObject) => boolean;

/** One test for both selectors; undefined where everything is wanted. Throws BadRequest. */
export function selection(
  definition: ResourceDefinition,
  labelSelector: string | undefined,
  fieldSelector: string | undefined,
): Predicate | undefined {
  const tests: Predicate[] = [];
  if (labelSelector) {
    const matches = parseLabelSelector(labelSelector);
    tests.push((object) => matches(object.metadata.labels));
  }
  if (fieldSelector) tests.push(fieldTest(definition, fieldSelector));
  if (tests.length === 0) return undefined;
  return (object) => tests.every((test) => test(object));
}

function fieldTest(definition: ResourceDefinition, text: string): Predicate {
  const known = Object.keys(fieldsOf(definition, { metadata: {} }));
  const requirements = text
    .split(/(?<!\\),/)
    .filter((part) => part !== "")
    .map((part) => {
      const match = /^(.*?)(==|!=|=)(.*)$/.exec(part);
      if (match === null) throw badRequest(`invalid selector: '${text}'; can't understand '${part}'`);
      const [, field, operator, value] = match;
      if (!known.includes(field!)) throw badRequest(`field label not supported: ${field}`);
      return { field: field!, equal: operator !== "!=", value: value!.replace(/\\([\\,=])/g, "$1") };
    });
  return (object) => {
    const fields = fieldsOf(definition, object);
    return requirements.every(({ field, equal, value }) => ((fields[field] ?? "") === value) === equal);
  };
}

function fieldsOf(definition: ResourceDefinition, object: KubeObject): Record<string, string> {
  return {
    ...definition.selectableFields(object),
    "metadata.name": object.metadata.name ?? "",
    ...(definition.namespaced ? { "metadata.namespace": object.metadata.namespace ?? "" } : {}),
  };
}
