// A proxy on the loopback address that passes what a client sends on after a time: the latency of a
// network. The answers are not delayed.
//
//   delay_proxy PORT MILLISECONDS      prints its own port, and serves until it is killed

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

namespace {

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// Passes bytes on until one side closes. What a client sends at once is a request: it is small.
void pass(int from, int to, std::chrono::milliseconds delay) {
  constexpr std::size_t kSize = 1 << 18;
  const auto bytes = std::make_unique<char[]>(kSize);
  for (;;) {
    const ssize_t got = read(from, bytes.get(), kSize);
    if (got <= 0) break;
    if (delay.count() != 0) std::this_thread::sleep_for(delay);
    for (ssize_t done = 0; done < got;) {
      const ssize_t sent = write(to, bytes.get() + done, static_cast<std::size_t>(got - done));
      if (sent <= 0) break;
      done += sent;
    }
  }
  shutdown(from, SHUT_RDWR);
  shutdown(to, SHUT_RDWR);
}

void serve(int client, int port, std::chrono::milliseconds delay) {
  const int server = socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  const int on = 1;
  setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    std::thread answers([=] { pass(server, client, std::chrono::milliseconds(0)); });
    pass(client, server, delay);
    answers.join();
  }
  close(server);
  close(client);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: delay_proxy PORT MILLISECONDS\n"), 2;
  std::signal(SIGPIPE, SIG_IGN);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener, 512) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return std::perror("delay_proxy"), 1;
  }
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  for (;;) {
    const int client = accept(listener, nullptr, nullptr);
    if (client < 0) continue;
    std::thread(serve, client, std::atoi(argv[1]), std::chrono::milliseconds(std::atoi(argv[2])))
        .detach();
  }
}
