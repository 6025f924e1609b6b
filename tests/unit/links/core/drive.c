/* Drives the core under a sanitizer: random physics, then real sockets with commands from two threads at once. */
#define _GNU_SOURCE
#include "engine.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t seed = 7;
static uint64_t any(uint64_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

static size_t timeline(seg_t *seg, int64_t from)
{
    size_t n = 1 + any(6);
    for (size_t i = 0; i < n; i++, from += 1 + (int64_t)any(5000))
        seg[i] = (seg_t){.t0 = from, .ref = from - 50, .delay = (int64_t)any(20000), .slope = (int64_t)any(1u << 30) << 28, .byte_time = any(1u << 31),
                         .loss = any(4) ? 0 : UINT64_MAX / 3, .ber = any(4) ? 0 : 1ull << 50, .to_bad = UINT64_MAX / 9, .to_good = UINT64_MAX / 4,
                         .bad_loss = UINT64_MAX, .flags = any(16)};
    return n;
}

static void physics(int carry)
{
    pipe_config_t cfg = {.classes = 3, .weighted = any(2), .max_frame = 1600, .carry = carry, .seed = any(99)};
    for (int c = 0; c < 3; c++)
        cfg.limit_bytes[c] = 9000, cfg.limit_frames[c] = 5 + any(40), cfg.quantum[c] = 1600;
    pipe_t *p = pipe_new(&cfg, NULL);
    seg_t seg[8];
    uint8_t data[1700] = {0};
    rec_t out[32];
    int64_t now = 0;
    size_t n = timeline(seg, 0);
    pipe_replace(p, INT64_MIN, seg, n, FAR);
    for (int i = 0; i < 3000; i++, now += (int64_t)any(900)) {
        pipe_push(p, data, 1 + (uint32_t)any(1650), (uint32_t)any(3), now, (uint64_t)i);
        if (!any(5))
            while (pipe_pop(p, now, out, 32) == 32)
                ;
        if (!any(40)) {
            n = timeline(seg, now - 2000);
            pipe_replace(p, now - 2000, seg, n, any(2) ? FAR : now + 9000);
        }
        seg_t deaf[] = {{.t0 = now + 100}, {.t0 = now + 900, .flags = SEG_UP}};
        if (!any(30))
            pipe_receiver(p, now, deaf, 2);
        pipe_next(p);
        if (!pipe_balanced(p))
            exit(3);
    }
    if (any(2))
        pipe_abandon(p);
    pipe_free(p);
}

/* As often as not its light time shrinks. */
static size_t approaching(seg_t *seg, int64_t from)
{
    size_t n = timeline(seg, from);
    for (size_t i = 0; i < n; i++)
        seg[i].slope *= any(2) ? 1 : -1;
    return n;
}

/* Who wakes when frames come and when `pipe_next_arrival` says so finds none that was due before. */
static void arrivals(void)
{
    pipe_config_t cfg = {.classes = 3, .weighted = any(2), .max_frame = 1600, .carry = 1, .seed = any(99)};
    for (int c = 0; c < 3; c++)
        cfg.limit_bytes[c] = 90000, cfg.limit_frames[c] = 5 + any(40), cfg.quantum[c] = 1600;
    pipe_t *p = pipe_new(&cfg, NULL);
    seg_t seg[8];
    uint8_t data[1600] = {0};
    rec_t *due[32];
    int64_t now = 0, push = 0, known = FAR, wake;
    uint64_t found = 0, woken = 0;
    pipe_replace(p, INT64_MIN, seg, approaching(seg, 0), known);
    for (int i = 0; i < 2000; i++, push += (int64_t)any(any(9) ? 900 : 90000)) {
        if (!any(40) || known <= push) {
            size_t n = approaching(seg, now + 1);
            known = any(2) ? FAR : push + 9000;
            pipe_replace(p, now + 1, seg, n, known);
        }
        for (; wake = pipe_next_arrival(p), wake <= push; woken++) {
            if (wake < now)
                exit(4);
            pipe_advance(p, now = wake);
            for (size_t n; (n = pipe_gather(p, now, due, 32)); found += n) {
                for (size_t k = 0; k < n; k++)
                    if (due[k]->t != now)
                        exit(5);
                pipe_release(p, n);
            }
        }
        pipe_push(p, data, 1 + (uint32_t)any(1600), (uint32_t)any(3), now = push, (uint64_t)i);
    }
    if (!found || woken > 2000 + found)
        exit(6);
    pipe_free(p);
}

static int stop, file;
static engine_t *engine;
static dir_t *dirs[2];
static capture_t capture;

static void *move(void *arg) { return engine_run(engine), arg; }
static void *spill(void *arg) { return store_run(&engine->store), arg; }

static void *watch(void *arg)
{
    wire_stats_t out;
    engine_stats_t all;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        for (int i = 0; i < 2; i++) {
            dir_stats(dirs[i], &out);
            if (out.pipe.broken)
                exit(4);
        }
        engine_stats(engine, &all);
        usleep(500);
    }
    return arg;
}

static void *write_capture(void *arg)
{
    for (uint64_t done = 0, now, last = 0; !last;) {
        last = __atomic_load_n(&stop, __ATOMIC_ACQUIRE) == 2;
        while ((now = capture_drained(&capture, done)) > done) {
            uint64_t from = done % CAPTURE_BYTES, n = now - done < CAPTURE_BYTES - from ? now - done : CAPTURE_BYTES - from;
            ssize_t put = write(file, capture.ring + from, n);
            if (put < 0)
                exit(5);
            done += (uint64_t)put;
        }
        eventfd_t count;
        if (!last)
            eventfd_read(capture.event, &count);
    }
    return arg;
}

static int packet_socket(const char *name, int protocol)
{
    int s = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V2;
    struct tpacket_req ring = {RING_BLOCK, 8, 2048, 4096};
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = (int)if_nametoindex(name)};
    if (protocol && (setsockopt(s, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
                     setsockopt(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, &version, sizeof version) ||
                     setsockopt(s, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring)))
        exit(6);
    if (bind(s, (struct sockaddr *)&at, sizeof at))
        exit(7);
    return s;
}

static int sockets(const char *folder, const char *path)
{
    int frames = 30000;
    wire_config_t wire[2];
    pthread_t worker, disk, watcher, writer;
    engine = engine_new(4 << 20, open(folder, O_TMPFILE | O_RDWR, 0600), eventfd(0, EFD_NONBLOCK));
    pthread_create(&worker, NULL, move, NULL);
    pthread_create(&disk, NULL, spill, NULL);
    pipe_config_t cfg = {.classes = 1, .max_frame = 1600, .carry = 1, .seed = 1, .limit_bytes = {1 << 22}, .limit_frames = {1 << 20}, .quantum = {1600}};
    for (int i = 0; i < 2; i++) {
        wire[i] = (wire_config_t){.rx = packet_socket(i ? "m1" : "m0", ETH_P_ALL), .tx = packet_socket(i ? "m0" : "m1", 0), .slot_bytes = 2048, .slots = 4096};
        wire[i].ring = mmap(NULL, 4096 * 2048, PROT_READ | PROT_WRITE, MAP_SHARED, wire[i].rx, 0);
        dirs[i] = dir_add(engine, &wire[i], &cfg);
        seg_t seg = {.delay = 700000000, .flags = SEG_UP};
        dir_timeline(dirs[i], INT64_MIN, &seg, 1, FAR);
    }
    file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    capture.ring = malloc(CAPTURE_BYTES);
    capture.event = eventfd(0, 0);
    pthread_create(&writer, NULL, write_capture, NULL);
    dir_capture(dirs[0], &capture);
    pthread_create(&watcher, NULL, watch, NULL);
    int s = packet_socket("e0", 0);
    uint8_t frame[1200] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
    for (int i = 0; i < frames; i++) {
        if (send(s, frame, sizeof frame, 0) < 0)
            i--;
        if (i % 50 == 0)
            usleep(1000);
        if (i % 5000 == 0) {
            dir_clock(dirs[0], FAR, 1);
            dir_clock(dirs[0], FAR, 0);
        }
    }
    wire_stats_t out;
    engine_stats_t all;
    do {
        usleep(20000);
        dir_stats(dirs[0], &out);
    } while (out.pipe.wait[0].frames || out.pipe.fly.frames);
    engine_stats(engine, &all);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(watcher, NULL);
    dir_capture(dirs[0], NULL);
    __atomic_store_n(&stop, 2, __ATOMIC_RELEASE);
    eventfd_write(capture.event, 1);
    pthread_join(writer, NULL);
    printf("in %lu out %lu dropped %lu written %lu read %lu captured %lu\n", out.pipe.in[0].frames, out.pipe.out[0].frames,
           out.pipe.drop[0].frames, all.store.written, all.store.read, capture.written);
    for (int i = 0; i < 2; i++) {
        dir_remove(dirs[i]);
        munmap(wire[i].ring, 4096 * 2048);
        close(wire[i].rx);
        close(wire[i].tx);
    }
    engine_stop(engine);
    pthread_join(worker, NULL);
    pthread_join(disk, NULL);
    engine_free(engine);
    free(capture.ring);
    close(s);
    return out.pipe.in[0].frames < (uint64_t)frames || !all.store.written || out.pipe.broken || capture.lost ? 9 : 0;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 30; i++)
        physics(i & 1), arrivals();
    return argc > 2 ? sockets(argv[1], argv[2]) : 0;
}
