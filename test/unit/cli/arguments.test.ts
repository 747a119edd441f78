import { InvalidArgumentError } from "commander";
import { expect, it } from "vitest";
import {
  interval,
  ipAddress,
  ipv4Address,
  ipv4AndPort,
  l4Port,
  listeningPort,
  seconds,
  wholeNumber,
} from "../../../src/cli/arguments.js";

type Case = [(text: string) => unknown, string, unknown];

it.each<Case>([
  [wholeNumber(2), "2", 2],
  [wholeNumber(0, 10), "10", 10],
  [seconds(0), "0", 0],
  [seconds(0.001), "0.25", 0.25],
  [interval, ".5", 0.5],
  [listeningPort, "0", 0],
  [l4Port, "65535", 65_535],
  [ipAddress, "::1", "::1"],
  [ipv4Address, "192.0.2.1", "192.0.2.1"],
  [ipv4AndPort, "127.0.0.1:9476", "127.0.0.1:9476"],
])("%# %s takes %s", (parse, text, value) => {
  expect(parse(text)).toBe(value);
});

it.each<Case>([
  [wholeNumber(2), "1", "Want a whole number from 2 on."],
  [wholeNumber(2), "2.5", "Want a whole number from 2 on."],
  [wholeNumber(0, 10), "", "Want a whole number from 0 to 10."],
  [wholeNumber(0, 10), "0x5", "Want a whole number from 0 to 10."],
  [seconds(0), "-1", "Want a number of seconds from 0 on."],
  [interval, "0", "Want a number of seconds from 0.1 to 3600."],
  [interval, "1s", "Want a number of seconds from 0.1 to 3600."],
  [listeningPort, "65536", "Want a whole number from 0 to 65535."],
  [l4Port, "0", "Want a whole number from 1 to 65535."],
  [ipAddress, "localhost", "Want an IP address."],
  [ipv4Address, "192.0.2.256", "Want an IPv4 address."],
  [ipv4Address, "::1", "Want an IPv4 address."],
  [ipv4AndPort, "127.0.0.1", "Want IPv4-ADDRESS:PORT."],
  [ipv4AndPort, "127.0.0.1:65536", "Want IPv4-ADDRESS:PORT."],
  [ipv4AndPort, "127.0.0.1:80:81", "Want IPv4-ADDRESS:PORT."],
])("%# %s refuses %s", (parse, text, message) => {
  expect(() => parse(text)).toThrow(new InvalidArgumentError(message as string));
});
