/**
 * Kinds that are questions: authentication.k8s.io/v1 SelfSubjectReview (who am I) and authorization.k8s.io/v1
 * SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview and LocalSubjectAccessReview (may I,
 * what may I, may he). A create answers them from auth/; nothing is stored. `kubectl auth` asks them.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import { allows, allowsPath, type PodsOn, rulesOf } from "../auth/authorize.js";
import { badRequest, invalid as invalidObject } from "../errors.js";
import type { FieldError, ResourceDefinition, ReviewContext } from "../resource.js";
import type { User } from "../verbs/Hooks.js";
import { defineResource } from "./define.js";
import { invalid } from "./fieldErrors.js";
import { items, type Loose } from "./loose.js";

const AUTHORIZATION = "authorization.k8s.io";

interface Question {
  group: string;
  kind: string;
  namespaced?: boolean;
  answer(object: Loose, context: ReviewContext): object;
}

function question({ group, kind, namespaced = false, answer }: Question): ResourceDefinition {
  return defineResource({
    group,
    version: "v1",
    kind,
    plural: `${kind.toLowerCase()}s`,
    namespaced,
    verbs: ["create"],
    review(object, context): KubeObject {
      const metadata = { ...object.metadata, creationTimestamp: null };
      return { ...object, metadata, status: answer(object, context) };
    },
  });
}

export const selfSubjectReviews = question({
  group: "authentication.k8s.io",
  kind: "SelfSubjectReview",
  answer: (_object, { user }) => ({ userInfo: { username: user.name, groups: user.groups } }),
});

export const selfSubjectAccessReviews = question({
  group: AUTHORIZATION,
  kind: "SelfSubjectAccessReview",
  answer(object, { user, podsOn }) {
    checkSpec("SelfSubjectAccessReview", object.spec, []);
    return verdict(user, object.spec, podsOn);
  },
});

export const selfSubjectRulesReviews = question({
  group: AUTHORIZATION,
  kind: "SelfSubjectRulesReview",
  answer(object, { user, definitions }) {
    if (!object.spec?.namespace) throw badRequest("no namespace on request");
    return { ...rulesOf(user, definitions), incomplete: false };
  },
});

export const subjectAccessReviews = question({
  group: AUTHORIZATION,
  kind: "SubjectAccessReview",
  answer(object, { podsOn }) {
    checkSpec("SubjectAccessReview", object.spec, nobody(object.spec));
    return verdict(subjectOf(object.spec), object.spec, podsOn);
  },
});

export const localSubjectAccessReviews = question({
  group: AUTHORIZATION,
  kind: "LocalSubjectAccessReview",
  namespaced: true,
  answer(object, { podsOn }) {
    const { spec = {}, metadata } = object;
    const faults = nobody(spec);
    if (spec.resourceAttributes) {
      spec.resourceAttributes.namespace ||= metadata.namespace;
      const { namespace } = spec.resourceAttributes;
      if (namespace !== metadata.namespace)
        throw badRequest(`spec.resourceAttributes.namespace must match namespace: ${metadata.namespace}`);
    }
    if (spec.nonResourceAttributes)
      faults.push(invalid("spec.nonResourceAttributes", "", "disallowed on this kind of request"));
    checkSpec("LocalSubjectAccessReview", spec, faults);
    return verdict(subjectOf(spec), spec, podsOn);
  },
});

/** A review must name somebody. */
function nobody(spec: Loose): FieldError[] {
  if (spec?.user || items(spec?.groups).length > 0) return [];
  return [invalid("spec.user", "", "at least one of user or group must be specified")];
}

function subjectOf(spec: Loose): User {
  return { name: spec.user ?? "", groups: items(spec.groups) };
}

function checkSpec(kind: string, spec: Loose, faults: FieldError[]): void {
  const resource = spec?.resourceAttributes;
  const path = spec?.nonResourceAttributes;
  if (resource && path)
    faults.push(
      invalid(
        "spec.nonResourceAttributes",
        path,
        "cannot be specified in combination with resourceAttributes",
      ),
    );
  if (!resource && !path)
    faults.push(
      invalid(
        "spec.resourceAttributes",
        null,
        "exactly one of nonResourceAttributes or resourceAttributes must be specified",
      ),
    );
  if (faults.length > 0) throw invalidObject(AUTHORIZATION, kind, "", faults);
}

/** Status of an access review. */
function verdict(user: User, spec: Loose, podsOn: PodsOn): object {
  const { resourceAttributes: asked, nonResourceAttributes: path } = spec;
  const allowed = path
    ? allowsPath(user, (path.verb ?? "").toLowerCase(), path.path ?? "")
    : allows(
        user,
        {
          verb: asked.verb ?? "",
          group: asked.group ?? "",
          resource: (asked.resource ?? "") + (asked.subresource ? `/${asked.subresource}` : ""),
          namespace: asked.namespace || undefined,
          name: asked.name || undefined,
        },
        podsOn,
      );
  return { allowed };
}
