/* Load for the benchmarks of the delay line.
 *   load send IF BYTES FRAMES_PER_SECOND SECONDS BATCH   (0 frames per second: as many as possible)
 *   load sink IF SECONDS NOMINAL_DELAY_NS
 * With LOAD_QDISC in the environment the sender goes through the interface's queueing discipline, as netem needs.
 * Frames carry a number and the wall clock at which they were sent; the sink compares the kernel's arrival stamp. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <time.h>

#define TYPE 0x88b5 /* IEEE 802 local experimental */
#define MAX_BATCH 64
#define BLOCK (1u << 20)
#define BLOCKS 64u

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int open_at(const char *name, int protocol)
{
    int s = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = (int)if_nametoindex(name)};
    if (s < 0 || !at.sll_ifindex || (!protocol && bind(s, (struct sockaddr *)&at, sizeof at))) {
        perror(name);
        exit(1);
    }
    return s;
}

static int send_load(char **v)
{
    int size = atoi(v[3]), batch = atoi(v[6]), one = 1, room = 16 << 20;
    double rate = atof(v[4]);
    int s = open_at(v[2], 0);
    static uint8_t frame[MAX_BATCH][9300];
    struct mmsghdr msg[MAX_BATCH];
    struct iovec io[MAX_BATCH];
    memset(msg, 0, sizeof msg);
    if (!getenv("LOAD_QDISC"))
        setsockopt(s, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < batch; i++) {
        memcpy(frame[i], "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5", 14);
        io[i] = (struct iovec){frame[i], (size_t)size};
        msg[i].msg_hdr.msg_iov = &io[i];
        msg[i].msg_hdr.msg_iovlen = 1;
    }
    int64_t start = clock_ns(CLOCK_MONOTONIC), end = start + (int64_t)(atof(v[5]) * 1e9);
    uint64_t number = 0, refused = 0;
    while (clock_ns(CLOCK_MONOTONIC) < end) {
        if (rate > 0) {
            int64_t due = start + (int64_t)((double)number * 1e9 / rate);
            struct timespec t = {due / 1000000000, due % 1000000000};
            if (due > clock_ns(CLOCK_MONOTONIC))
                clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        }
        int64_t wall = clock_ns(CLOCK_REALTIME);
        for (int i = 0; i < batch; i++, number++) {
            memcpy(frame[i] + 14, &number, 8);
            memcpy(frame[i] + 22, &wall, 8);
        }
        for (int done = 0; done < batch;) {
            int n = sendmmsg(s, msg + done, (unsigned)(batch - done), 0);
            refused += n < 0;
            done += n < 0 ? errno != EINTR : n;
        }
    }
    double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) * 1e-9;
    printf("{\"sent\": %lu, \"refused\": %lu, \"per_second\": %.0f}\n", number, refused, (double)number / seconds);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int sink(char **v)
{
    int s = open_at(v[2], TYPE), version = TPACKET_V3;
    int64_t nominal = atoll(v[4]), first = 0, last = 0, highest = -1;
    size_t room = 1 << 24, n = 0, frames = 0, disorder = 0, early = 0, bytes = 0, first_bytes = 0;
    int64_t *error = malloc(room * sizeof *error);
    struct tpacket_req3 ring = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = 2048, .tp_frame_nr = BLOCK / 2048 * BLOCKS, .tp_retire_blk_tov = 20};
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(TYPE), .sll_ifindex = (int)if_nametoindex(v[2])};
    uint8_t *map;
    if (!error || setsockopt(s, SOL_PACKET, PACKET_VERSION, &version, sizeof version) || setsockopt(s, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) ||
        (map = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, s, 0)) == MAP_FAILED || bind(s, (struct sockaddr *)&at, sizeof at)) {
        perror("sink");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    int64_t end = clock_ns(CLOCK_MONOTONIC) + (int64_t)(atof(v[3]) * 1e9);
    for (unsigned b = 0;;) {
        struct tpacket_block_desc *d = (void *)(map + (size_t)b * BLOCK);
        if (!(__atomic_load_n(&d->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            int64_t left = end - clock_ns(CLOCK_MONOTONIC);
            struct pollfd p = {s, POLLIN, 0};
            if (left <= 0)
                break;
            poll(&p, 1, (int)(left / 1000000) + 1);
            continue;
        }
        uint8_t *at_frame = (uint8_t *)d + d->hdr.bh1.offset_to_first_pkt;
        for (unsigned i = 0; i < d->hdr.bh1.num_pkts; i++) {
            struct tpacket3_hdr *h = (void *)at_frame;
            int64_t number, wall, stamp = h->tp_sec * 1000000000ll + h->tp_nsec;
            memcpy(&number, at_frame + h->tp_mac + 14, 8);
            memcpy(&wall, at_frame + h->tp_mac + 22, 8);
            frames++;
            if (n < room) /* percentiles are those of the first frames */
                error[n++] = stamp - wall - nominal;
            early += stamp - wall < nominal;
            disorder += number <= highest;
            highest = number > highest ? number : highest;
            if (!first)
                first = stamp, first_bytes = h->tp_len;
            last = stamp;
            bytes += h->tp_len;
            at_frame += h->tp_next_offset;
        }
        __atomic_store_n(&d->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        b = (b + 1) % BLOCKS;
    }
    struct tpacket_stats_v3 lost;
    socklen_t size = sizeof lost;
    getsockopt(s, SOL_PACKET, PACKET_STATISTICS, &lost, &size);
    qsort(error, n, sizeof *error, by_size);
    double span = (double)(last - first) * 1e-9;
    printf("{\"frames\": %zu, \"disorder\": %zu, \"early\": %zu, \"sink_drops\": %u, \"p50_ns\": %ld, \"p99_ns\": %ld, \"max_ns\": %ld, \"min_ns\": %ld, \"bit_per_second\": %.1f}\n",
           frames, disorder, early, lost.tp_drops, n ? error[n / 2] : 0, n ? error[n * 99 / 100] : 0, n ? error[n - 1] : 0, n ? error[0] : 0,
           span > 0 ? (double)(bytes - first_bytes) * 8 / span : 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "send"))
        return send_load(argv);
    if (argc == 5 && !strcmp(argv[1], "sink"))
        return sink(argv);
    fputs("usage: load send IF BYTES FRAMES_PER_SECOND SECONDS BATCH | load sink IF SECONDS NOMINAL_DELAY_NS\n", stderr);
    return 2;
}
