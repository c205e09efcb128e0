/* The smallest HTTP server the self-check can use: answers each connection on PORT (argument 1) with the host name,
 * that is the pod's name, and prints one line for it. Dynamically linked on purpose. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8080)};
  char name[256] = "", request[4096], answer[512];

  signal(SIGPIPE, SIG_IGN);
  gethostname(name, sizeof name - 1);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
    perror("listen");
    return 1;
  }
  printf("hello from %s\n", name);
  fflush(stdout);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    if (read(connection, request, sizeof request) > 0) {
      int length = snprintf(answer, sizeof answer,
                            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s\n", strlen(name) + 1, name);
      if (write(connection, answer, length) == length) printf("served\n");
      fflush(stdout);
    }
    close(connection);
  }
}
