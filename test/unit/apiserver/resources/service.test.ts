import { describe, expect, test } from "vitest";
import { endpoints } from "../../../../src/apiserver/resources/endpoints.js";
import { events } from "../../../../src/apiserver/resources/event.js";
import type { Loose } from "../../../../src/apiserver/resources/loose.js";
import { services } from "../../../../src/apiserver/resources/service.js";
import { cells, created, faults, headers, refused, updated } from "./support.js";

const service = (spec: object, name = "lb-nginx-ds"): Loose => ({
  metadata: { name },
  spec: { selector: { name: "nginx" }, ports: [{ port: 8080, targetPort: 80 }], ...spec },
});

describe("defaults", () => {
  test("ClusterIP", () => {
    const object = created(services, { metadata: { name: "s" }, spec: { ports: [{ port: 80 }] } });
    expect(object.spec).toEqual({
      ports: [{ port: 80, protocol: "TCP", targetPort: 80 }],
      type: "ClusterIP",
      sessionAffinity: "None",
      internalTrafficPolicy: "Cluster",
    });
    expect(object.status).toEqual({ loadBalancer: {} });
  });

  test("LoadBalancer, ClientIP", () => {
    const object = created(services, service({ type: "LoadBalancer", sessionAffinity: "ClientIP" }));
    expect(object.spec).toMatchObject({
      allocateLoadBalancerNodePorts: true,
      externalTrafficPolicy: "Cluster",
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 10800 } },
    });
  });
});

describe("validation", () => {
  test("the walkthrough's Services are good", () => {
    const ports = [{ port: 8080, targetPort: 80, nodePort: 30800 }];
    expect(refused(services, service({ type: "LoadBalancer", ports }))).toEqual([]);
    expect(refused(services, service({ type: "NodePort", ports }))).toEqual([]);
    expect(refused(services, service({ clusterIP: "None" }))).toEqual([]);
  });

  test.each<[string, object, string[]]>([
    [
      "a node port of a ClusterIP Service",
      { ports: [{ port: 80, nodePort: 30080 }] },
      ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    ],
    [
      "a protocol in lower case",
      { ports: [{ port: 80, protocol: "tcp" }] },
      ['spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'],
    ],
    [
      "a type that is none",
      { type: "Loadbalancer" },
      [
        'spec.type: Unsupported value: "Loadbalancer": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
      ],
    ],
    ["no ports", { ports: [] }, ["spec.ports: Required value"]],
    [
      "a port out of range",
      { ports: [{ port: 70000 }] },
      [
        "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
      ],
    ],
    [
      "two ports without names",
      { ports: [{ port: 80 }, { port: 81, name: "x" }] },
      ["spec.ports[0].name: Required value"],
    ],
    [
      "two ports of one name",
      {
        ports: [
          { port: 80, name: "x" },
          { port: 81, name: "x" },
        ],
      },
      ['spec.ports[1].name: Duplicate value: "x"'],
    ],
    [
      "one port twice",
      {
        ports: [
          { port: 80, name: "x" },
          { port: 80, name: "y" },
        ],
      },
      [
        'spec.ports[1]: Duplicate value: core.ServicePort{Name:"", Protocol:"TCP", AppProtocol:(*string)(nil), Port:80, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:""}, NodePort:0}',
      ],
    ],
    [
      "a target port of a strange name",
      { ports: [{ port: 80, targetPort: "a-very-long-port-name" }] },
      [
        'spec.ports[0].targetPort: Invalid value: "a-very-long-port-name": must be no more than 15 characters',
      ],
    ],
    [
      "session affinity by cookie",
      { sessionAffinity: "Cookie" },
      ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'],
    ],
    [
      "an external address that is none",
      { externalIPs: ["127.0.0.1", "x"] },
      [
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
        'spec.externalIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
      ],
    ],
    [
      "an external policy inside",
      { externalTrafficPolicy: "Local" },
      [
        'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
      ],
    ],
    [
      "a headless load balancer",
      { type: "LoadBalancer", clusterIP: "None" },
      [`spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services`],
    ],
    [
      "a load balancer's class elsewhere",
      { loadBalancerClass: "example.com/other" },
      ["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
    ],
    [
      "an external name without a name",
      { type: "ExternalName", ports: [] },
      ["spec.externalName: Required value"],
    ],
  ])("%s", (_, spec, expected) => {
    expect(refused(services, service(spec))).toEqual(expected);
  });

  test("names are RFC 1035 labels", () => {
    expect(refused(services, service({}, "1st"))).toEqual([
      `metadata.name: Invalid value: "1st": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
    ]);
  });
});

describe("updates", () => {
  const old = created(
    services,
    service({
      type: "NodePort",
      clusterIP: "10.152.183.20",
      clusterIPs: ["10.152.183.20"],
      ports: [{ port: 80, nodePort: 30080 }],
    }),
  );

  test("the cluster address cannot change", () => {
    const moved = updated(services, old, (object) => {
      object.spec.clusterIP = "10.152.183.21";
      object.spec.clusterIPs = ["10.152.183.21"];
    });
    expect(faults(services, moved, old)).toEqual([
      'spec.clusterIPs[0]: Invalid value: []string{"10.152.183.21"}: may not change once set',
    ]);
  });

  test("only a load balancer has addresses in its status", () => {
    const balanced = created(services, service({ type: "LoadBalancer" }));
    balanced.status = { loadBalancer: { ingress: [{ ip: "192.168.2.36" }] } };
    const inside = updated(services, balanced, (object) => {
      object.spec.type = "NodePort";
    });
    expect(inside.status).toEqual({ loadBalancer: {} });
  });

  test("a status write marks its addresses as VIPs", () => {
    const balanced = created(services, service({ type: "LoadBalancer" }));
    const given = structuredClone(balanced);
    given.status = { loadBalancer: { ingress: [{ ip: "192.168.2.36" }] } };
    services.prepare(given, balanced, "status");
    expect(given.status.loadBalancer.ingress).toEqual([{ ip: "192.168.2.36", ipMode: "VIP" }]);
  });
});

describe("table", () => {
  test("kubectl get svc -o wide", () => {
    const object = created(
      services,
      service({
        type: "LoadBalancer",
        clusterIP: "10.152.183.40",
        clusterIPs: ["10.152.183.40"],
        ports: [{ port: 8080, targetPort: 80, nodePort: 30800 }],
      }),
    );
    expect(headers(services, true)).toEqual([
      "NAME",
      "TYPE",
      "CLUSTER-IP",
      "EXTERNAL-IP",
      "PORT(S)",
      "AGE",
      "SELECTOR",
    ]);
    const row = ["lb-nginx-ds", "LoadBalancer", "10.152.183.40"];
    const rest = ["8080:30800/TCP", "5m", "name=nginx"];
    expect(cells(services, object, true)).toEqual([...row, "<pending>", ...rest]);
    object.status = { loadBalancer: { ingress: [{ ip: "192.168.2.36" }] } };
    expect(cells(services, object, true)).toEqual([...row, "192.168.2.36", ...rest]);
  });

  test("other types", () => {
    const inside = created(services, service({ clusterIPs: ["10.152.183.1"] }));
    expect(cells(services, inside).slice(1, 5)).toEqual(["ClusterIP", "10.152.183.1", "<none>", "8080/TCP"]);
    const headless = created(services, service({ clusterIPs: ["None"], ports: [] }));
    expect(cells(services, headless).slice(1, 5)).toEqual(["ClusterIP", "None", "<none>", "<none>"]);
    const name = created(services, service({ type: "ExternalName", externalName: "example.com", ports: [] }));
    expect(cells(services, name).slice(1, 5)).toEqual(["ExternalName", "<none>", "example.com", "<none>"]);
  });
});

test("Endpoints", () => {
  const object = created(endpoints, {
    metadata: { name: "nginx" },
    subsets: [
      {
        addresses: ["10.1.235.193", "10.1.79.65", "10.1.69.193", "10.1.39.193"].map((ip) => ({ ip })),
        ports: [{ port: 80 }],
      },
    ],
  });
  expect(headers(endpoints)).toEqual(["NAME", "ENDPOINTS", "AGE"]);
  expect(cells(endpoints, object)).toEqual([
    "nginx",
    "10.1.235.193:80,10.1.79.65:80,10.1.69.193:80 + 1 more...",
    "5m",
  ]);
  expect(cells(endpoints, { ...object, subsets: undefined })[1]).toBe("<none>");
  expect(refused(endpoints, { metadata: { name: "e" }, subsets: [{ ports: [{ port: 80 }] }] })).toEqual([
    "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
  ]);
});

describe("Event", () => {
  const event = created(events, {
    metadata: { name: "nginx-ds.17ca", namespace: "default" },
    involvedObject: { kind: "DaemonSet", name: "nginx-ds", namespace: "default" },
    type: "Normal",
    reason: "SuccessfulCreate",
    message: "Created pod: nginx-ds-4x2kq\n",
    source: { component: "daemonset-controller" },
    firstTimestamp: "2024-05-01T11:58:00Z",
    lastTimestamp: "2024-05-01T11:59:00Z",
    count: 4,
  });

  test("kubectl get events -o wide", () => {
    expect(headers(events)).toEqual(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    expect(cells(events, event)).toEqual([
      "60s",
      "Normal",
      "SuccessfulCreate",
      "daemonset/nginx-ds",
      "Created pod: nginx-ds-4x2kq",
    ]);
    expect(cells(events, event, true).slice(-4)).toEqual([
      "Created pod: nginx-ds-4x2kq",
      "2m",
      4,
      "nginx-ds.17ca",
    ]);
  });

  test("field selectors and namespace", () => {
    expect(events.selectableFields(event)).toMatchObject({
      "involvedObject.kind": "DaemonSet",
      "involvedObject.name": "nginx-ds",
      reason: "SuccessfulCreate",
      source: "daemonset-controller",
    });
    expect(
      refused(events, {
        metadata: { name: "e", namespace: "other" },
        involvedObject: { namespace: "default" },
      }),
    ).toEqual(['involvedObject.namespace: Invalid value: "default": does not match event.namespace']);
  });
});
