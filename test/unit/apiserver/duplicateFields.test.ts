import { expect, test } from "vitest";
import { duplicatesInJson, parseYamlBody } from "../../../src/apiserver/http/duplicateFields.js";

test.each<[text: string, fields: string[]]>([
  ['{"a":1,"b":{"a":2}}', []],
  ['{"a":1,"a":1}', ["a"]],
  ['{"a":1,"a":1,"a":1}', ["a"]],
  [
    '{ "spec" : { "x":"}\\"{", "c" : [ {"n":1}, {"n":1, "m":[[],{}] , "n":2} ], "x" : null } }',
    ["spec.c[1].n", "spec.x"],
  ],
  ['{"a":1,"\\u0061":2}', ["a"]],
  ['[{"a":-1.5e3,"a":true}]', ["[0].a"]],
  ["null", []],
])("JSON: %s", (text, fields) => {
  JSON.parse(text);
  expect(duplicatesInJson(text)).toEqual(fields.map((field) => `duplicate field "${field}"`));
});

test("YAML: the last one counts, and the lines are named", () => {
  const text = "metadata:\n  name: a\n  'name': b\nspec: {x: 1, x: 2}\n";
  expect(parseYamlBody(text)).toEqual({
    body: { metadata: { name: "b" }, spec: { x: 2 } },
    duplicates: [
      'yaml: unmarshal errors:\n  line 3: key "name" already set in map\n  line 4: key "x" already set in map',
    ],
  });
  expect(parseYamlBody("a: 1\n")).toEqual({ body: { a: 1 }, duplicates: [] });
  expect(() => parseYamlBody("a: [")).toThrow();
});
