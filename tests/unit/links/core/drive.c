/* Drives the core under a sanitizer: random physics, then real sockets with commands from two threads at once. */
#include "engine.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <net/if.h>
#include <linux/if_packet.h>

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
    pipe_config_t cfg = {.classes = 3, .weighted = any(2), .max_frame = 1600, .carry = carry, .report = !carry, .seed = any(99)};
    for (int c = 0; c < 3; c++)
        cfg.limit_bytes[c] = 9000, cfg.limit_frames[c] = 5 + any(40), cfg.quantum[c] = 1600;
    pipe_t *p = solo_new(&cfg);
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
        span_t deaf = {now + 100, now + 900};
        if (!any(30))
            pipe_deaf(p, now, &deaf, 1);
        pipe_next(p);
        if (!pipe_balanced(p))
            exit(3);
    }
    if (any(2))
        pipe_abandon(p, now);
    solo_free(p);
}

static int stop;
static struct engine *engine;
static int32_t ids[2];

static void *watch(void *arg)
{
    wire_stats_t out[2];
    engine_stats_t all;
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        if (engine_stats(engine, ids, 2, out, &all) || out[0].pipe.broken)
            exit(4);
        usleep(500);
    }
    return NULL;
}

static int sockets(const char *spill, const char *capture)
{
    int error = 0, frames = 30000;
    engine = engine_open(0, 4 << 20, spill, &error);
    if (!engine)
        return 5;
    pipe_config_t cfg = {.classes = 1, .max_frame = 1600, .carry = 1, .seed = 1, .limit_bytes = {1 << 22}, .limit_frames = {1 << 20}, .quantum = {1600}};
    wire_config_t wire = {.slot_bytes = 2048, .slots = 4096};
    for (int i = 0; i < 2; i++) {
        wire.in_if = (int32_t)if_nametoindex(i ? "m1" : "m0");
        wire.out_if = (int32_t)if_nametoindex(i ? "m0" : "m1");
        ids[i] = engine_add(engine, &wire, &cfg);
        if (ids[i] < 0)
            return 6;
        seg_t seg = {.delay = 700000000, .flags = SEG_UP};
        engine_timeline(engine, ids[i], INT64_MIN, &seg, 1, FAR);
    }
    FILE *file = fopen(capture, "wb");
    engine_capture(engine, ids[0], dup(fileno(file)), 0, "t", "r");
    fclose(file);
    pthread_t watcher;
    pthread_create(&watcher, NULL, watch, NULL);
    int s = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("e0")};
    uint8_t frame[1200] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
    if (bind(s, (struct sockaddr *)&at, sizeof at))
        return 7;
    for (int i = 0; i < frames; i++) {
        if (send(s, frame, sizeof frame, 0) < 0)
            i--;
        if (i % 50 == 0)
            usleep(1000);
        if (i % 5000 == 0) {
            engine_pause(engine, ids[0], 1);
            engine_pause(engine, ids[0], 0);
        }
    }
    wire_stats_t out;
    engine_stats_t all;
    do {
        usleep(20000);
        if (engine_stats(engine, ids, 1, &out, &all))
            return 8;
    } while (out.pipe.wait.frames || out.pipe.fly.frames);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(watcher, NULL);
    printf("in %lu out %lu dropped %lu written %lu read %lu\n", out.pipe.in.frames, out.pipe.out.frames, out.pipe.drop.frames, all.store.written,
           all.store.read);
    engine_capture_stop(engine, ids[0]);
    engine_close(engine);
    close(s);
    return out.pipe.in.frames < (uint64_t)frames || !all.store.written || out.pipe.broken ? 9 : 0;
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 30; i++)
        physics(i & 1);
    return argc > 2 ? sockets(argv[1], argv[2]) : 0;
}
