// Package reqlat measures how long any TCP server takes to answer, from its socket reads and writes,
// with no change to the server.
//
// What is measured, per accepted connection:
//
//	bytes arrive (sk_data_ready) --wait--> the server reads (sock_recv_length) --service--> it answers
//
// A request begins with the first bytes that arrive after the previous answer, and ends with the first
// bytes sent after at least some of them were read. Latency is both spans together. The answer is taken
// where bytes enter the send buffer (tcp_sendmsg_locked, Linux 6.16); on older kernels where the send
// returns (sock_send_length), which is late when a send blocks. Both see writev and sendfile (tests hold
// nginx to that); io_uring ends in the same calls, kernel TLS too, but neither has been tried. The arrival
// is TCP's own time stamp of the segment, so time in the network card and its interrupt is not part of it.
//
// What counts, and what does not:
//   - Further sends of a streamed answer, greetings and pushes nobody asked for: no requests.
//   - A request in several segments begins with the first; but after 100 ms of silence with all bytes
//     read, new bytes begin a new request. Frames that want no answer would stretch the next one else.
//   - A long poll lasts until its answer. A message without an answer is never counted.
//   - Pipelined requests count one by one when the server reads them one by one, and as one (with the
//     latency of the first) when it reads them at once.
//   - Protocols that carry several requests at a time on a connection (HTTP/2, gRPC) are measured per
//     burst: the oldest unanswered bytes in to the next bytes out. Their control frames answer, too.
//   - A TLS handshake done by the server is a request or two per connection.
//   - Failed reads and sends, end of file, MSG_PEEK and the error queue count for nothing.
//   - A request whose bytes came before the probe was attached counts, but has no latency; one that was
//     read before does not count. So a probe that is paused part of the time misses the requests that
//     last longer than it counts at a stretch, and shows latencies that are too short for long ones.
//
// Which side is the server: an accepted socket carries its listener's queue length (sk_max_ack_backlog),
// a socket that connected has none. This holds for connections of any age, so nothing is seeded, and a
// client, also one that bound its port, is never taken for a server. A listener with a backlog of 0 is
// not seen. accept(2) has no tracepoint. What is seen is whether a connection's first bytes came before
// it: then request.accept_wait_ms counts from these bytes to the first read, which is when the
// connection was accepted or, where a server accepts early and reads late, after that. Connections
// accepted before their first bytes are not in it: no byte waited.
//
// Not seen: UDP (several requests wait in one socket and nothing tells whose answer a datagram is),
// local sockets (their answers need sock_send_length of every socket, which doubles the events),
// multipath TCP that is really used (a listener that only offers it is seen), reads by splice from the
// socket, by sockmap and by zero-copy mappings, and data in the handshake (TCP Fast Open) until the next
// bytes. Linux 6.3 is the oldest kernel with the tracepoints.
//
// All processes of one name on one port of one network namespace are one server, so that workers and
// processes per connection do not become thousands of entities; the label pid is one of them.
//
// It must never write to a socket, count a client, or keep more than a fixed number of servers. Read
// reqlat.bpf.c first; then servers.go, which hands over and forgets servers.
package reqlat
