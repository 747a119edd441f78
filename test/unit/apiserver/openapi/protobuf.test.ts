/** Bodies as kubectl 1.32 sent them. */
import { describe, expect, test } from "vitest";
import { decodeProtobuf, ProtobufError } from "../../../../src/apiserver/openapi/protobuf.js";

const body = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));

describe("decodeProtobuf", () => {
  test("kubectl create configmap c --from-literal=a=b", () => {
    expect(
      decodeProtobuf(
        body(
          "6b3873000a0f0a0276311209436f6e6669674d6170121b0a110a016312001a0022002a0032003800420012060a01611201621a002200",
        ),
      ),
    ).toEqual({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c" }, data: { a: "b" } });
  });

  test("kubectl create secret generic s --from-literal=a=b: bytes are base64", () => {
    expect(
      decodeProtobuf(
        body(
          "6b3873000a0c0a0276311206536563726574121d0a110a017312001a0022002a0032003800420012060a01611201621a001a002200",
        ),
      ),
    ).toEqual({ apiVersion: "v1", kind: "Secret", metadata: { name: "s" }, data: { a: "Yg==" } });
  });

  test("kubectl create service nodeport np --tcp=80:8080 --node-port=30080", () => {
    expect(
      decodeProtobuf(
        body(
          "6b3873000a0d0a02763112075365727669636512670a1d0a026e7012001a0022002a003200380042005a090a0361707012026e7012420a1d0a0738302d38303830120354435018502207080010903f1a002880eb0112090a0361707012026e701a0022084e6f6465506f72743a00420052005a00600068001a020a001a002200",
        ),
      ),
    ).toEqual({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "np", labels: { app: "np" } },
      spec: {
        type: "NodePort",
        selector: { app: "np" },
        ports: [{ name: "80-8080", protocol: "TCP", port: 80, targetPort: 8080, nodePort: 30080 }],
      },
      status: { loadBalancer: {} },
    });
  });

  test("kubectl create service clusterip h --clusterip=None --tcp=80:http: a named target port", () => {
    const service = decodeProtobuf(
      body(
        "6b3873000a0d0a027631120753657276696365126a0a1b0a016812001a0022002a003200380042005a080a03617070120168" +
          "12470a1e0a0738302d6874747012035443501850220a080110001a0468747470280012080a036170701201681a044e6f6e65" +
          "2209436c757374657249503a00420052005a00600068001a020a001a002200",
      ),
    );
    expect(service.spec).toEqual({
      type: "ClusterIP",
      clusterIP: "None",
      selector: { app: "h" },
      ports: [{ name: "80-http", protocol: "TCP", port: 80, targetPort: "http" }],
    });
  });

  test("a Lease's time and a Deployment's explicit zero", () => {
    // Lease {metadata {}, spec {renewTime {seconds 1714564800, nanos 123456000}}}
    const renewed = decodeProtobuf(
      body(
        "6b3873000a1f0a16636f6f7264696e6174696f6e2e6b38732e696f2f763112054c6561736512110a00120d220b08c0ddc8b106108094ef3a",
      ),
    );
    expect(renewed.spec).toEqual({ renewTime: "2024-05-01T12:00:00.123456Z" });
    // Deployment {spec {replicas 0, minReadySeconds 0}}: only of pointers is zero a value.
    const stopped = decodeProtobuf(
      body("6b3873000a150a07617070732f7631120a4465706c6f796d656e741206120408002800"),
    );
    expect(stopped.spec).toEqual({ replicas: 0 });
  });

  test("what is none", () => {
    expect(() => decodeProtobuf(body("7b7d"))).toThrow(ProtobufError);
    expect(() => decodeProtobuf(body("6b3873000a0f0a02763112"))).toThrow("truncated");
    expect(() => decodeProtobuf(body("6b3873000a080a0276311202"))).toThrow("truncated");
    expect(() => decodeProtobuf(body("6b3873000a090a02763112034a6f62"))).toThrow(
      'no kind "Job" is registered for version "v1" in protobuf',
    );
  });
});
