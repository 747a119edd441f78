/**
 * Owns the facts of the walkthrough: machines, addresses, blocks, DaemonSets and images (the objects
 * themselves are in manifests/lab). Plain values; must not know how they are brought to life, and
 * imports nothing.
 */
export const LAN_PREFIX_LENGTH = 24;
export const LAN_SUBNET = "192.168.2.0/24";
export const LAN_MTU = 1500;
export const POD_POOL = "10.1.0.0/16";
export const NODES = [
    { name: "k8s-master", address: "192.168.2.30", block: "10.1.235.192/26", tunnelAddress: "10.1.235.192" },
    { name: "k8s-worker01", address: "192.168.2.31", block: "10.1.79.64/26", tunnelAddress: "10.1.79.64" },
    { name: "k8s-worker02", address: "192.168.2.32", block: "10.1.69.192/26", tunnelAddress: "10.1.69.192" },
    { name: "k8s-worker03", address: "192.168.2.33", block: "10.1.39.192/26", tunnelAddress: "10.1.39.192" },
];
/** The client outside the cluster, on the same LAN. */
export const PC = { name: "pc", address: "192.168.2.10" };
/** In the order in which they are applied, which is that of their pods' addresses. */
export const DAEMON_SETS = [
    { name: "nginx-ds", application: "nginx" },
    { name: "apache-ds", application: "apache" },
    { name: "redis-ds", application: "redis" },
];
/** What is in the DaemonSets. */
export const IMAGES = {
    nginx: { repository: "nginx", l4Port: 80 },
    apache: { repository: "shotaohtsuka/my-httpd-image", l4Port: 90 },
    redis: { repository: "redis", l4Port: 6379 },
};
/** The application of an image such as "nginx:latest" or "docker.io/library/redis"; null for others. */
export function applicationOf(image) {
    const repository = image
        .replace(/@.*$/, "")
        .replace(/:[^/]*$/, "")
        .replace(/^(index\.)?docker\.io\//, "")
        .replace(/^library\//, "");
    const names = Object.keys(IMAGES);
    return names.find((name) => IMAGES[name].repository === repository) ?? null;
}
/** n0, a3: unique among the walkthrough's pods only. */
export function labelOf(application, node) {
    return `${application.charAt(0)}${NODES.findIndex(({ name }) => name === node)}`;
}
/** What kubectl applies at a step, by its name in manifests/lab. */
export const SERVICE_MANIFESTS = {
    2: "clusterip",
    3: "nodeport",
    4: "loadbalancer",
};
/** The pool of load-balancer addresses, by its name in manifests/lab. */
export const ADDRESS_POOL_MANIFEST = "addresspool";
export const SERVICES = {
    2: [
        { name: "clusterip-nginx-ds", application: "nginx", l4Port: 80, nodePort: 0 },
        { name: "clusterip-apache2-ds", application: "apache", l4Port: 90, nodePort: 0 },
        { name: "clusterip-redis-ds", application: "redis", l4Port: 6379, nodePort: 0 },
    ],
    3: [
        { name: "nodeport-nginx-ds", application: "nginx", l4Port: 80, nodePort: 30080 },
        { name: "nodeport-apache2-ds", application: "apache", l4Port: 90, nodePort: 30090 },
        { name: "nodeport-redis-ds", application: "redis", l4Port: 6379, nodePort: 30379 },
    ],
    4: [
        { name: "lb-nginx-ds", application: "nginx", l4Port: 8080, nodePort: 30800 },
        { name: "lb-apache-ds", application: "apache", l4Port: 9090, nodePort: 30900 },
        { name: "lb-redis-ds", application: "redis", l4Port: 6379, nodePort: 30379 },
    ],
};
//# sourceMappingURL=walkthrough.js.map