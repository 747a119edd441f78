/** Step 1 of the walkthrough: four nodes, twelve pods, and every one reaches every other by its address. */
import t from "tap";
import { DAEMON_SETS, NODES, SERVICES } from "../../src/lab/walkthrough.js";
import { ask, complaints, manifest, nameServers, until, walkPods } from "./support/cluster.js";
import { expectAt, expectKubectl } from "./support/target.js";
const OVERLAY_MTU = 1450;
let pods = [];
t.test("kubectl get node: four Ready, at their addresses", async (t) => {
    const nodes = await until("four Ready nodes", 120, async () => {
        const { items } = JSON.parse(await expectKubectl("get node -o json"));
        const ready = items.filter(({ status }) => status.conditions.some(({ type, status: value }) => type === "Ready" && value === "True"));
        return ready.length === NODES.length ? ready : null;
    });
    t.strictSame(nodes
        .map(({ metadata, status }) => [
        metadata.name,
        status.addresses.find(({ type }) => type === "InternalIP")?.address,
    ])
        .sort(), NODES.map(({ name, address }) => [name, address]).sort());
});
t.test("each node has its block, and a tunnel device with the block's first address", async (t) => {
    for (const { name, block, tunnelAddress } of NODES) {
        const blocks = await expectKubectl(`get ipamblocks.podwire.dev -o 'jsonpath={range .items[?(@.spec.node=="${name}")]}{.spec.cidr}{end}'`);
        t.equal(blocks, block, `block of ${name}`);
        const device = await expectAt(name, "ip -o -4 address show dev podwire0; ip -o link show dev podwire0");
        t.match(device, ` ${tunnelAddress}/32 `, `tunnel address of ${name}`);
        t.match(device, ` mtu ${OVERLAY_MTU} `, `MTU of ${name}`);
    }
});
t.test("DaemonSets: one pod of each on each node", async (t) => {
    // Services of an earlier run.
    const old = Object.values(SERVICES)
        .flat()
        .map(({ name }) => name);
    await expectKubectl(`delete svc --ignore-not-found ${old.join(" ")}`);
    for (const { name } of DAEMON_SETS) {
        await expectKubectl("apply -f -", manifest(name));
        await expectKubectl(`rollout status daemonset/${name} --timeout=180s`);
    }
    pods = await walkPods();
    t.strictSame(pods.map(({ application, node }) => `${application} ${node}`), DAEMON_SETS.flatMap(({ application }) => NODES.map(({ name }) => `${application} ${name}`)));
    t.comment(await expectKubectl("get pod -o wide"));
});
t.test("their addresses are consecutive in the node's block", async (t) => {
    for (const { name, block } of NODES) {
        const last = (address) => Number(address.split(".")[3]);
        const own = pods.filter(({ node }) => node === name);
        const [first, prefix] = [last(own[0].address), block.replace(/\.\d+\/\d+$/, "")];
        t.strictSame(own.map(({ address }) => address), own.map((_, i) => `${prefix}.${first + i}`), name);
        const base = last(block.replace(/\/.*/, ""));
        t.ok(first > base && first + own.length <= base + 64, `${name}: in ${block}, behind the tunnel address`);
    }
});
t.test("every pod reaches every pod, itself included", async (t) => {
    await nameServers(pods);
    const wrong = await Promise.all(pods.map(async (from) => {
        const answers = await ask({ pod: from.name }, pods);
        return [
            ...complaints(from.name, pods, answers, pods),
            // Of its own address only the pod itself may answer.
            ...answers.flatMap((answer, i) => "pod" in answer && answer.pod !== pods[i].name
                ? [`${pods[i].address}: ${answer.pod} answered`]
                : []),
        ];
    }));
    t.strictSame(wrong.flat(), []);
    t.equal(pods.length ** 2, 144);
});
t.test("every node reaches every pod", async (t) => {
    for (const { name } of NODES)
        t.strictSame(complaints(name, pods, await ask({ place: name }, pods), pods), [], name);
});
t.test("a pod's eth0 is as wide as the tunnel allows, and carries that", async (t) => {
    for (const { name } of pods.filter(({ application }) => application === "nginx"))
        t.match(await expectKubectl(`exec ${name} -- ip -o link show dev eth0`), ` mtu ${OVERLAY_MTU} `, name);
});
//# sourceMappingURL=1-pods.js.map