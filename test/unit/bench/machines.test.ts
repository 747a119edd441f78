import { describe, expect, it } from "vitest";
import { parseMachinesOptions } from "../../../bench/net/machines/options.js";
import { formatMachines } from "../../../bench/net/machines/report.js";
import { selectVariants } from "../../../bench/net/variants.js";
import { emptyRecords } from "../../../bench/testbed/records.js";
import { quote, sshCommand } from "../../support/ssh.js";

const parsed = (...args: string[]) => {
  const options = parseMachinesOptions(["--target", "ssh", ...args]);
  if (options === "help") throw new Error("unexpected");
  return options;
};

describe("parseMachinesOptions", () => {
  it("goes from the first worker to the second unless told otherwise", () => {
    expect(parsed()).toMatchObject({ nodes: ["k8s-worker01", "k8s-worker02"], repetitions: 3, seconds: 5 });
    expect(parsed("--quick", "--nodes", "k8s-master,k8s-worker03", "-F", "config")).toMatchObject({
      nodes: ["k8s-master", "k8s-worker03"],
      repetitions: 1,
      seconds: 1,
      sshConfig: "config",
    });
  });

  it.each([
    ["--target", "lab"],
    ["--nodes", "one"],
    ["--nodes", "a,a"],
    ["--tests", "nothing"],
    ["--lan", "as-is"],
  ])("refuses %s %s", (...args) => {
    expect(() => parsed(...args)).toThrow();
  });
});

describe("formatMachines", () => {
  const records = emptyRecords();
  records.values = { kernel: { tcp1: [4, 2] }, podwire: { tcp1: [3, 2] } };
  const text = (virtualization: string) =>
    formatMachines(
      parsed("--tests", "tcp1"),
      { "k8s-worker01": { kernel: "5.15.0", cores: 2, podwire: "0.1.0", iperf3: "3.9", virtualization } },
      records,
      [
        ...selectVariants(["kernel"], [1]),
        { ...selectVariants(["portable"], [1])[0], target: null, key: "podwire" },
      ],
    );

  it("prints the ratios within the repetitions and the figures", () => {
    expect(text("kvm")).toMatch(/TCP, 1 stream \| +0\.88 \[0\.75–1\.00\] \|\n/);
    expect(text("kvm")).toMatch(
      /TCP, 1 stream \| Gbit\/s \| 3\.00 \[2\.00–4\.00\] \| +2\.50 \[2\.00–3\.00\] \|/,
    );
    expect(text("kvm")).toContain("k8s-worker01: kvm, 2 cores, kernel 5.15.0, podwire 0.1.0, iperf3 3.9");
  });

  it.each([
    ["qemu", "MEAN NOTHING"],
    ["systemd-nspawn", "MEAN LITTLE"],
    ["kvm", "virtual"],
    ["none", "real"],
  ])("says what figures of %s machines are worth", (virtualization, words) => {
    expect(text(virtualization)).toContain(words);
  });
});

describe("sshCommand", () => {
  it("hands over a script that a shell takes for one word", () => {
    expect(quote("it's $HOME")).toBe(`'it'\\''s $HOME'`);
    const command = sshCommand("config", "pc", "echo 'a'");
    expect(command.slice(0, 3)).toEqual(["ssh", "-F", "config"]);
    expect(command.at(-1)).toContain(`exec sudo -n sh -c 'echo '\\''a'\\'''`);
    expect(sshCommand("", "pc", "true")).not.toContain("-F");
  });
});
