/*
 * The peer of the spool benchmark: a relay in C that holds what it receives, with blocking calls.
 *
 *   spool_baseline PORT SERVER_PORT DIRECTORY
 *
 * One connection after the other: connect to the server, receive to the end of the stream, write to an
 * unlinked file, hash (SHA-256 of libcrypto, which picks the processor's own instructions as Python's
 * hashlib does), then read the file back and send it to the client.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE (256 * 1024)

static unsigned char buffer[BUFFER_SIZE];

static void fail(const char *what)
{
    fprintf(stderr, "spool_baseline: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void write_all(int fd, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, buffer + done, length - done);
        if (n < 0)
            fail("write");
        done += (size_t)n;
    }
}

/* 0 when the client went away, which is how the harness looks whether the port is open. */
static int send_all(int fd, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = send(fd, buffer + done, length - done, MSG_NOSIGNAL);
        if (n < 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static void relay(int client, int server, int file)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_length;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    ssize_t n;

    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    while ((n = recv(server, buffer, sizeof buffer, 0)) > 0) {
        write_all(file, (size_t)n);
        EVP_DigestUpdate(hash, buffer, (size_t)n);
    }
    if (n < 0)
        fail("recv");
    EVP_DigestFinal_ex(hash, digest, &digest_length);
    EVP_MD_CTX_free(hash);
    if (lseek(file, 0, SEEK_SET) < 0)
        fail("lseek");
    while ((n = read(file, buffer, sizeof buffer)) > 0)
        if (!send_all(client, (size_t)n))
            return;
    if (n < 0)
        fail("read");
}

int main(int argc, char **argv)
{
    struct sockaddr_in here, there;
    int listener, one = 1;

    if (argc != 4) {
        fprintf(stderr, "usage: spool_baseline PORT SERVER_PORT DIRECTORY\n");
        return 2;
    }
    here = loopback(argv[1]);
    there = loopback(argv[2]);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 16) < 0)
        fail("listen");
    for (;;) {
        int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
        int file = open(argv[3], O_TMPFILE | O_RDWR, 0600);
        if (client < 0 || server < 0 || file < 0)
            fail("accept, socket or open");
        if (connect(server, (struct sockaddr *)&there, sizeof there) < 0)
            fail("connect");
        relay(client, server, file);
        close(file);
        close(server);
        close(client);
    }
}
