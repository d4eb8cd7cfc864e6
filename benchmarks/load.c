/*
 * The load generator of the benchmarks: exact counts of HTTP/1.1 requests over epoll, one thread.
 *
 * It runs on the core opposite the relay, sends the same bytes to whichever relay it is pointed at, and
 * checks every response (status 200, whole body).  It prints one JSON object, and exits with 1 if any
 * request failed: a run with a failed request is not a measurement.
 *
 *   load --port N [--host A] [--path /small] [--units N | --duration-ms N] [--connections N]
 *        [--close] [--interval-us N] [--hold] [--sources N]
 *
 * --close        one connection per request (`Connection: close`, read to the end of the stream)
 * --interval-us  with one request in flight per connection, start one no more often than this
 * --hold         one request on each connection, then print "held" and keep all of them open and
 *                silent until standard input ends
 * --sources N    spread the connections over N client addresses, 127.0.0.2 upwards
 * --through MODE first ask a proxy for 127.0.0.1:TARGET, by "socks5" or "connect"
 * --target N     that port
 * --site H:P     ask a web proxy for http://H:P/PATH, with the fields that curl sends
 * --vary         another query with every request, so that no two of them are alike
 * --udp          datagrams instead: each connection is a socket that sends one, waits for its echo,
 *                and sends the next; a datagram that is lost is a failed request
 * --size N       bytes of a datagram (64)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 4096
#define BODY_BUFFER (256 * 1024)
#define LATENCIES_MAX (1 << 22)
#define HOLD_BURST 64
#define HOLD_QUIET_NS 5000000000ull

enum state { CLOSED, CONNECTING, GREETING, ASKING, READING_HEAD, READING_BODY, AWAITING_END, WAITING };

struct slot {
    int fd;
    enum state state;
    uint32_t head_length;
    uint64_t body_left;
    uint64_t started_ns;
    uint64_t next_ns;
    char head[HEAD_MAX];
};

static struct {
    const char *host, *path, *through, *site;
    int port, vary, connections, close_each, hold, sources, target, udp, size;
    uint64_t units, duration_ns, interval_ns;
} options = {.host = "127.0.0.1", .path = "/small", .connections = 1, .size = 64};

static int epoll_fd;
static char request[1024];
static size_t request_length;
static char *varied; /* the digits in it that change */
#define VARIED_DIGITS 10
static char body_buffer[BODY_BUFFER];
static uint64_t started, finished, failed, bytes_in, deadline_ns, opened;
static uint32_t *latencies_us;
static volatile sig_atomic_t stopping;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static void slot_close(struct slot *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->state = CLOSED;
}

static void slot_fail(struct slot *s, const char *why)
{
    if (failed++ < 3)
        fprintf(stderr, "load: request failed: %s (errno %d: %s)\n", why, errno, strerror(errno));
    slot_close(s);
}

static int may_start(void)
{
    if (stopping || failed >= 100)
        return 0;
    if (options.units && started >= options.units)
        return 0;
    return !deadline_ns || now_ns() < deadline_ns;
}

static void slot_send(struct slot *s)
{
    s->head_length = 0;
    s->state = READING_HEAD;
    if (varied)
        for (char *digit = varied + VARIED_DIGITS - 1; digit >= varied && ++*digit > '9'; digit--)
            *digit = '0';
    if (send(s->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length)
        slot_fail(s, "send");
}

/* Says who and where to, if it goes through a proxy; else asks at once. */
static void slot_ask(struct slot *s)
{
    char connect_head[128];
    int length;

    if (!options.through) {
        slot_send(s);
        return;
    }
    s->head_length = 0;
    if (!strcmp(options.through, "socks5")) {
        s->state = GREETING;
        if (send(s->fd, "\x05\x01\x00", 3, MSG_NOSIGNAL) != 3)
            slot_fail(s, "send");
        return;
    }
    s->state = ASKING;
    length = snprintf(connect_head, sizeof connect_head,
                      "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
                      options.target, options.target);
    if (send(s->fd, connect_head, (size_t)length, MSG_NOSIGNAL) != length)
        slot_fail(s, "send");
}

/* Takes the proxy's answers; 0 while it waits for more of them, else the request is on its way. */
static int slot_proxied(struct slot *s)
{
    unsigned char ask[10] = {5, 1, 0, 1, 127, 0, 0, 1};

    s->head[s->head_length] = 0;
    if (s->state == GREETING) {
        if (s->head_length < 2)
            return 0;
        if (memcmp(s->head, "\x05\x00", 2) != 0 || s->head_length != 2) {
            slot_fail(s, "not a SOCKS 5 greeting without a password");
            return 1;
        }
        ask[8] = (unsigned char)(options.target >> 8);
        ask[9] = (unsigned char)options.target;
        s->state = ASKING;
        s->head_length = 0;
        if (send(s->fd, ask, sizeof ask, MSG_NOSIGNAL) != (ssize_t)sizeof ask)
            slot_fail(s, "send");
        return 0;
    }
    if (!strcmp(options.through, "socks5")) {
        if (s->head_length < 10)
            return 0;
        if (s->head[1] != 0 || s->head_length != 10) {
            slot_fail(s, "SOCKS refused");
            return 1;
        }
    } else {
        if (!strstr(s->head, "\r\n\r\n"))
            return 0;
        if (strncmp(s->head, "HTTP/1.1 200", 12) != 0) {
            slot_fail(s, "CONNECT refused");
            return 1;
        }
    }
    slot_send(s);
    return 1;
}

static void slot_connect(struct slot *s)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    int one = 1;

    inet_pton(AF_INET, options.host, &to.sin_addr);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        slot_fail(s, "socket");
        return;
    }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.sources) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(opened % (uint64_t)options.sources));
        setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(s->fd, (struct sockaddr *)&from, sizeof from) < 0) {
            slot_fail(s, "bind");
            return;
        }
    }
    opened++;
    s->state = CONNECTING;
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        slot_fail(s, "connect");
        return;
    }
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event) < 0)
        slot_fail(s, "epoll_ctl");
}

/* Begins one unit of work: on the slot's connection, or on a new one. */
static void slot_start(struct slot *s)
{
    started++;
    s->started_ns = now_ns();
    s->next_ns = s->started_ns + options.interval_ns;
    if (s->fd < 0)
        slot_connect(s);
    else
        slot_send(s);
}

static void slot_next(struct slot *s)
{
    if (options.hold || !may_start()) {
        if (!options.hold)
            slot_close(s);
        else
            s->state = WAITING;
        return;
    }
    if (options.interval_ns && now_ns() < s->next_ns)
        s->state = WAITING;
    else
        slot_start(s);
}

static void slot_finish(struct slot *s)
{
    if (finished < LATENCIES_MAX)
        latencies_us[finished] = (uint32_t)((now_ns() - s->started_ns) / 1000u);
    finished++;
    if (options.close_each)
        slot_close(s);
    slot_next(s);
}

/* Takes what of the head has arrived; 1 when it is whole, 0 when more is needed, -1 when it is wrong. */
static int slot_head(struct slot *s)
{
    char *end, *length;
    uint64_t beyond;

    s->head[s->head_length] = 0;
    end = strstr(s->head, "\r\n\r\n");
    if (!end)
        return s->head_length < HEAD_MAX - 1 ? 0 : -1;
    if (strncmp(s->head, "HTTP/1.1 200 ", 13) != 0)
        return -1;
    length = strcasestr(s->head, "\r\ncontent-length:");
    if (!length || length > end)
        return -1;
    s->body_left = strtoull(length + 17, NULL, 10);
    beyond = s->head_length - (uint64_t)(end + 4 - s->head);
    if (beyond > s->body_left)
        return -1;
    s->body_left -= beyond;
    return 1;
}

static void slot_read(struct slot *s)
{
    for (;;) {
        ssize_t n;
        if (s->state == READING_HEAD || s->state == GREETING || s->state == ASKING)
            n = recv(s->fd, s->head + s->head_length, HEAD_MAX - 1 - s->head_length, 0);
        else if (s->state == READING_BODY)
            n = recv(s->fd, body_buffer, sizeof body_buffer, 0);
        else if (s->state == AWAITING_END)
            n = recv(s->fd, body_buffer, 1, 0);
        else
            return;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 || (n == 0) != (s->state == AWAITING_END)) {
            slot_fail(s, n < 0 ? "recv" : n ? "bytes after the response" : "early end of stream");
            return;
        }
        bytes_in += (uint64_t)n;
        if (s->state == GREETING || s->state == ASKING) {
            s->head_length += (uint32_t)n;
            slot_proxied(s);
            if (s->fd < 0)
                return;
            continue;
        }
        if (s->state == READING_HEAD) {
            int whole;
            s->head_length += (uint32_t)n;
            whole = slot_head(s);
            if (whole < 0) {
                slot_fail(s, "not a 200 response with a length");
                return;
            }
            if (!whole)
                continue;
            s->state = READING_BODY;
        } else if (s->state == READING_BODY) {
            if ((uint64_t)n > s->body_left) {
                slot_fail(s, "longer body than announced");
                return;
            }
            s->body_left -= (uint64_t)n;
        } else {
            slot_finish(s);
            return;
        }
        if (s->state == READING_BODY && !s->body_left) {
            if (options.close_each) {
                s->state = AWAITING_END;
                continue;
            }
            slot_finish(s);
            if (s->state != READING_HEAD)
                return;
        }
    }
}

static void slot_ready(struct slot *s, uint32_t events)
{
    if (s->fd < 0)
        return;
    if (s->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errno = error;
            slot_fail(s, "connect");
            return;
        }
        slot_ask(s);
    }
    if (s->fd >= 0 && s->state == WAITING && (events & EPOLLRDHUP)) {
        slot_fail(s, "an idle connection was closed");
        return;
    }
    if (s->fd >= 0 && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)))
        slot_read(s);
}

/* One turn of the loop; with an interval, also starts what is due. Returns the slots still open. */
static int turn(struct slot *slots, int timeout_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, timeout_ms), active = 0;

    for (int i = 0; i < count; i++)
        slot_ready(events[i].data.ptr, events[i].events);
    for (int i = 0; i < options.connections; i++) {
        struct slot *s = &slots[i];
        if (options.interval_ns && s->state == WAITING)
            slot_next(s);
        active += s->state != CLOSED;
        if (!options.interval_ns && active)
            break;
    }
    return active;
}

static void run(struct slot *slots)
{
    int timeout_ms = options.interval_ns ? 1 : 1000;

    for (int i = 0; i < options.connections && may_start(); i++)
        slot_start(&slots[i]);
    for (int idle_turns = 0; idle_turns < 30;) {
        uint64_t before = finished + bytes_in;
        if (!turn(slots, timeout_ms))
            return;
        idle_turns = (before == finished + bytes_in && timeout_ms == 1000) ? idle_turns + 1 : 0;
    }
    errno = ETIMEDOUT;
    failed++;
    fprintf(stderr, "load: no progress for 30 s\n");
}

/* Opens the connections in small groups: a burst of thousands would overflow the accept queue. */
static void hold(struct slot *slots)
{
    uint64_t wanted = (uint64_t)options.connections, progress = 0, progress_ns = now_ns();
    char byte;

    while (finished < wanted && !failed && !stopping && now_ns() < progress_ns + HOLD_QUIET_NS) {
        while (started < wanted && started < finished + HOLD_BURST)
            slot_start(&slots[started]);
        turn(slots, 100);
        if (finished > progress) {
            progress = finished;
            progress_ns = now_ns();
        }
    }
    if (finished != wanted) {
        fprintf(stderr, "load: %lu of %lu connections could be opened\n", finished, wanted);
        failed++;
        return;
    }
    printf("held\n");
    fflush(stdout);
    while (!stopping && read(0, &byte, 1) > 0)
        ;
    turn(slots, 0);
}

/* Datagrams: each socket has one under way; what does not come back within 10 s is lost. */
static void run_datagrams(struct slot *slots)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    struct epoll_event events[256];
    static char datagram[65536], came[65536];
    int active = 0;

    inet_pton(AF_INET, options.host, &to.sin_addr);
    memset(datagram, 'd', sizeof datagram);
    for (int i = 0; i < options.connections; i++) {
        struct slot *s = &slots[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
        s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (options.sources) {
            struct sockaddr_in from = {.sin_family = AF_INET};
            from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(i % options.sources));
            if (bind(s->fd, (struct sockaddr *)&from, sizeof from) < 0)
                slot_fail(s, "bind");
        }
        if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event) < 0) {
            slot_fail(s, "datagram socket");
            return;
        }
        s->state = WAITING;
    }
    for (int i = 0; i < options.connections && may_start(); i++, active++) {
        started++;
        slots[i].state = READING_BODY;
        slots[i].started_ns = now_ns();
        if (send(slots[i].fd, datagram, (size_t)options.size, 0) != options.size)
            slot_fail(&slots[i], "send");
    }
    while (active > 0 && failed < 100) {
        int count = epoll_wait(epoll_fd, events, 256, 10000); /* a relay may be starting */
        if (count <= 0) {
            errno = ETIMEDOUT;
            failed += (uint64_t)active;
            fprintf(stderr, "load: %d datagrams were lost\n", active);
            return;
        }
        for (int i = 0; i < count; i++) {
            struct slot *s = events[i].data.ptr;
            ssize_t n = recv(s->fd, came, sizeof came, 0);
            if (n < 0 && errno == EAGAIN)
                continue;
            if (n != options.size || memcmp(came, datagram, (size_t)n) != 0) {
                slot_fail(s, "another datagram came");
                active--;
                continue;
            }
            bytes_in += (uint64_t)n;
            if (finished < LATENCIES_MAX)
                latencies_us[finished] = (uint32_t)((now_ns() - s->started_ns) / 1000u);
            finished++;
            if (!may_start()) {
                active--;
                s->state = WAITING;
                continue;
            }
            started++;
            s->started_ns = now_ns();
            if (send(s->fd, datagram, (size_t)options.size, 0) != options.size) {
                slot_fail(s, "send");
                active--;
            }
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(uint64_t elapsed_ns)
{
    uint64_t n = finished < LATENCIES_MAX ? finished : LATENCIES_MAX;
    qsort(latencies_us, n, sizeof *latencies_us, compare);
    printf("{\"units\": %lu, \"failed\": %lu, \"bytes\": %lu, \"elapsed_s\": %.6f, \"p50_us\": %u, "
           "\"p99_us\": %u, \"max_us\": %u}\n",
           finished, failed, bytes_in, (double)elapsed_ns / 1e9, n ? latencies_us[n / 2] : 0,
           n ? latencies_us[n * 99 / 100] : 0, n ? latencies_us[n - 1] : 0);
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, 0, 'p'},        {"host", 1, 0, 'h'},  {"path", 1, 0, 'u'},    {"units", 1, 0, 'n'},
        {"duration-ms", 1, 0, 'd'}, {"connections", 1, 0, 'c'}, {"close", 0, 0, 'x'},
        {"interval-us", 1, 0, 'i'}, {"hold", 0, 0, 'l'},  {"sources", 1, 0, 's'},
        {"through", 1, 0, 't'},     {"target", 1, 0, 'g'}, {"udp", 0, 0, 'U'},     {"size", 1, 0, 'z'},
        {"site", 1, 0, 'w'},        {"vary", 0, 0, 'v'},
        {0, 0, 0, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'h': options.host = optarg; break;
        case 'u': options.path = optarg; break;
        case 'n': options.units = strtoull(optarg, NULL, 10); break;
        case 'd': options.duration_ns = strtoull(optarg, NULL, 10) * 1000000u; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'x': options.close_each = 1; break;
        case 'i': options.interval_ns = strtoull(optarg, NULL, 10) * 1000u; break;
        case 'l': options.hold = 1; break;
        case 's': options.sources = atoi(optarg); break;
        case 't': options.through = optarg; break;
        case 'g': options.target = atoi(optarg); break;
        case 'U': options.udp = 1; break;
        case 'w': options.site = optarg; break;
        case 'v': options.vary = 1; break;
        case 'z': options.size = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (!options.port || options.connections < 1 || (!options.units && !options.duration_ns && !options.hold)) {
        fprintf(stderr, "load: --port, and one of --units, --duration-ms, --hold are needed\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct sigaction on_stop = {.sa_handler = stop};
    struct slot *slots;
    uint64_t begun;

    parse(argc, argv);
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGINT, &on_stop, NULL);
    request_length = (size_t)snprintf(
        request, sizeof request, "GET %s%s%s%s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", options.site ? "http://" : "",
        options.site ? options.site : "", options.path, options.vary ? "?n=0000000000" : "",
        options.site ? options.site : "bench.example",
        options.site ? "User-Agent: curl/7.88.1\r\nAccept: */*\r\nProxy-Connection: Keep-Alive\r\n" : "",
        options.close_each ? "Connection: close\r\n" : "");
    if (options.vary)
        varied = strstr(request, "?n=") + 3;
    slots = calloc((size_t)options.connections, sizeof *slots);
    latencies_us = malloc(sizeof *latencies_us * LATENCIES_MAX);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!slots || !latencies_us || epoll_fd < 0)
        return 2;
    for (int i = 0; i < options.connections; i++)
        slots[i].fd = -1;
    begun = now_ns();
    if (options.duration_ns)
        deadline_ns = begun + options.duration_ns;
    if (options.udp)
        run_datagrams(slots);
    else if (options.hold)
        hold(slots);
    else
        run(slots);
    report(now_ns() - begun);
    return failed || (options.units && finished != options.units) ? 1 : 0;
}
