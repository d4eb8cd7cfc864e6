/* Clients of a proxy that opens TLS: CONNECT, a whole handshake, verified, requests, the end.
 *
 * Each thread is one client at a time.  Nothing is resumed: each connection is a full handshake of
 * TLS 1.3 with X25519.  What any client finds wrong (an answer other than 200, a certificate that
 * the given authority did not sign for the name, a body that ends early) is a failure of the run.
 *
 * Prints one line of JSON, as load.c does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (256 * 1024)

static int proxy_port, threads = 16, requests = 1, is_varied;
static long units = 1, first;
static const char *target, *name, *path = "/small", *authority;
static atomic_long next_unit, failed, received;
static SSL_CTX *context;
static int *times_us;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int fail(const char *what)
{
    char words[256] = "";
    unsigned long error = ERR_get_error();
    if (error)
        ERR_error_string_n(error, words, sizeof words);
    if (atomic_fetch_add(&failed, 1) < 5)
        fprintf(stderr, "%s %s\n", what, words);
    return -1;
}

static int dial(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(proxy_port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct timeval patience = { .tv_sec = 20 };
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(sock, (struct sockaddr *)&to, sizeof to)) {
        close(sock);
        return fail("connect");
    }
    return sock;
}

static int ask_for_tunnel(int sock, const char *authority_of_unit)
{
    char text[1024];
    int length = snprintf(text, sizeof text, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
                          authority_of_unit, authority_of_unit);
    if (send(sock, text, length, MSG_NOSIGNAL) != length)
        return fail("send");
    int filled = 0;
    while (filled < (int)sizeof text - 1) {
        int count = recv(sock, text + filled, sizeof text - 1 - filled, 0);
        if (count <= 0)
            return fail("no answer to CONNECT");
        filled += count;
        text[filled] = 0;
        if (strstr(text, "\r\n\r\n"))
            return strncmp(text + 8, " 200", 4) ? fail(text) : 0;
    }
    return fail("an endless answer to CONNECT");
}

/* One request; the answer has a Content-Length. */
static int ask(SSL *tls, const char *host, char *buffer, int is_last)
{
    int length = snprintf(buffer, BUFFER_BYTES, "GET %s HTTP/1.1\r\nHost: %s%s\r\n%s\r\n", path, host,
                          strrchr(target, ':'), is_last ? "Connection: close\r\n" : "");
    if (SSL_write(tls, buffer, length) != length)
        return fail("request");
    long filled = 0, wanted = -1;
    while (wanted < 0) {
        int count = SSL_read(tls, buffer + filled, BUFFER_BYTES - 1 - filled);
        if (count <= 0)
            return fail("no answer");
        filled += count;
        buffer[filled] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        if (!end)
            continue;
        char *found = strcasestr(buffer, "content-length:");
        if (strncmp(buffer + 8, " 200", 4) || !found || found > end)
            return fail("an answer that is not 200");
        wanted = atol(found + 15) - (filled - (end + 4 - buffer));
    }
    atomic_fetch_add(&received, filled);
    while (wanted > 0) {
        int count = SSL_read(tls, buffer, BUFFER_BYTES);
        if (count <= 0)
            return fail("the body ends early");
        wanted -= count;
        atomic_fetch_add(&received, count);
    }
    return wanted ? fail("more than was announced") : 0;
}

static int serve_unit(long unit, char *buffer)
{
    char host[256], to[300];
    if (is_varied)
        snprintf(host, sizeof host, "n%ld.%s", first + unit, name);
    else
        snprintf(host, sizeof host, "%s", name);
    const char *port = strrchr(target, ':');
    if (target[0] == ':')
        snprintf(to, sizeof to, "%s%s", host, port);
    else
        snprintf(to, sizeof to, "%s", target);
    int sock = dial();
    if (sock < 0)
        return -1;
    int result = ask_for_tunnel(sock, to);
    if (!result) {
        SSL *tls = SSL_new(context);
        SSL_set_fd(tls, sock);
        SSL_set_tlsext_host_name(tls, host);
        SSL_set1_host(tls, host);
        if (SSL_connect(tls) != 1)
            result = fail("handshake");
        for (int one = 0; !result && one < requests; one++)
            result = ask(tls, host, buffer, one == requests - 1);
        if (!result)
            SSL_shutdown(tls);
        SSL_free(tls);
    }
    close(sock);
    return result;
}

static void *work(void *nothing)
{
    (void)nothing;
    char *buffer = malloc(BUFFER_BYTES);
    for (;;) {
        long unit = atomic_fetch_add(&next_unit, 1);
        if (unit >= units)
            break;
        double began = now_s();
        serve_unit(unit, buffer);
        times_us[unit] = (int)((now_s() - began) * 1e6);
    }
    free(buffer);
    return NULL;
}

static int by_size(const void *one, const void *other)
{
    return *(const int *)one - *(const int *)other;
}

int main(int count, char **arguments)
{
    for (int at = 1; at < count; at++) {
        const char *option = arguments[at];
        if (!strcmp(option, "--vary")) {
            is_varied = 1;
            continue;
        }
        if (++at >= count)
            return 2;
        const char *value = arguments[at];
        if (!strcmp(option, "--port")) proxy_port = atoi(value);
        else if (!strcmp(option, "--units")) units = atol(value);
        else if (!strcmp(option, "--connections")) threads = atoi(value);
        else if (!strcmp(option, "--requests")) requests = atoi(value);
        else if (!strcmp(option, "--to")) target = value;
        else if (!strcmp(option, "--name")) name = value;
        else if (!strcmp(option, "--path")) path = value;
        else if (!strcmp(option, "--authority")) authority = value;
        else if (!strcmp(option, "--first")) first = atol(value);
        else return 2;
    }
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set1_groups_list(context, "X25519");
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x08http/1.1", 9);
    if (SSL_CTX_load_verify_locations(context, authority, NULL) != 1)
        return 2;
    times_us = calloc(units, sizeof *times_us);
    pthread_t *started = calloc(threads, sizeof *started);
    double began = now_s();
    for (int one = 0; one < threads; one++)
        pthread_create(&started[one], NULL, work, NULL);
    for (int one = 0; one < threads; one++)
        pthread_join(started[one], NULL);
    double elapsed = now_s() - began;
    qsort(times_us, units, sizeof *times_us, by_size);
    printf("{\"units\": %ld, \"failed\": %ld, \"bytes\": %ld, \"elapsed_s\": %.6f, "
           "\"p50_us\": %d, \"p99_us\": %d, \"max_us\": %d}\n",
           units * requests, (long)failed, (long)received, elapsed, times_us[units / 2],
           times_us[units * 99 / 100], times_us[units - 1]);
    return failed ? 1 : 0;
}
