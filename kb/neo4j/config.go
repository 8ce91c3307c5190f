package neo4j

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// Config says where Neo4j is and where the spool lies.
type Config struct {
	URI   string // neo4j://host:7687, bolt://..., or with +s or +ssc for TLS
	User  string
	Pass  string
	Spool string           // a directory of this machine that this store has for itself
	Opens sqlite.Rights    // what the spool is opened with; nil: our own rights
	Log   *slog.Logger     // changes of state; nil: nowhere
	Now   func() time.Time // nil: time.Now
}

// limits are the times within which things happen; tests shorten some.
type limits struct {
	open    time.Duration // how long Open waits for the first answer
	connect time.Duration // for a connection to be made and to answer
	read    time.Duration // how long a reader waits for what is newer
	write   time.Duration // how long a writer waits for its delivery
	deliver time.Duration // for one transaction of the queue
	idle    time.Duration // between looks at what others changed
	retry   time.Duration // the first pause after a failure; doubles
	longest time.Duration // the longest such pause
	locked  time.Duration // the same after a wrong password: servers lock out who keeps trying
}

func defaultLimits() limits {
	return limits{open: 3 * time.Second, connect: 3 * time.Second, read: 2 * time.Second, write: 2 * time.Second,
		deliver: 15 * time.Second, idle: 5 * time.Second, retry: 100 * time.Millisecond, longest: 5 * time.Second, locked: 30 * time.Second}
}

// address checks the URI and gives its host:port. The URI may hold a password by mistake, so no error
// repeats it.
func (c Config) address() (string, error) {
	bad := func(format string, args ...any) error {
		return &tune.Error{Op: "use NEO4J_URI", Err: fmt.Errorf("%w: %s", tune.ErrUsage, fmt.Sprintf(format, args...)),
			Hint: "write it as neo4j://host:7687, bolt://host:7687, or with +s for TLS; name and password go into NEO4J_USER and NEO4J_PASS"}
	}
	u, err := url.Parse(c.URI)
	if err != nil {
		return "", bad("it is not an address")
	}
	schemes := []string{"neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc"}
	switch {
	case u.Scheme == "":
		return "", bad("it has no scheme")
	case !slices.Contains(schemes, u.Scheme):
		return "", bad("its scheme is %q, not one of %s", u.Scheme, strings.Join(schemes, ", "))
	case u.User != nil:
		return "", bad("it holds a user name or password")
	case u.Hostname() == "":
		return "", bad("it names no host")
	case strings.HasPrefix(u.Scheme, "bolt") && u.RawQuery != "":
		return "", bad("a bolt address has no query")
	case u.Path != "" && u.Path != "/":
		return "", bad("it has a path")
	}
	port := u.Port()
	if port == "" {
		port = "7687"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
