// Kernel names that the C library's headers may lack. Values are the kernel's own.

#pragma once

#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#ifndef IP_PMTUDISC_OMIT
#define IP_PMTUDISC_OMIT 5
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
