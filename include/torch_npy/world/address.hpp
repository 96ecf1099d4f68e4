#ifndef TORCH_NPY_WORLD_ADDRESS_HPP_
#define TORCH_NPY_WORLD_ADDRESS_HPP_

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

constexpr char kLoopback[] = "127.0.0.1";

inline bool is_loopback(const std::string& address) {
  return address == "::1" || starts_with(address, "127.");
}

/// The address of this machine from which it sends to `host`; none if there is no way to it. Sends
/// nothing. Prefers IPv4, so that all machines choose the same kind.
inline std::optional<std::string> address_towards(const std::string& host, std::uint16_t port) {
  for (const int family : {AF_INET, AF_INET6}) {
    addrinfo wanted{};
    wanted.ai_family = family;
    wanted.ai_socktype = SOCK_DGRAM;
    addrinfo* list = nullptr;
    if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &list) != 0) continue;
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, ::freeaddrinfo);
    for (const addrinfo* found = list; found; found = found->ai_next) {
      const int socket = ::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      if (socket < 0) continue;
      sockaddr_storage own{};
      socklen_t size = sizeof own;
      char text[NI_MAXHOST];
      const bool is_found = ::connect(socket, found->ai_addr, found->ai_addrlen) == 0 &&
                            ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                            ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text,
                                          sizeof text, nullptr, 0, NI_NUMERICHOST) == 0;
      ::close(socket);
      if (is_found) return std::string(text);
    }
  }
  return std::nullopt;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_ADDRESS_HPP_
