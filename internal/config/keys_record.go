package config

import (
	"fmt"
	"strconv"
	"time"
)

// recordKeys are what is kept of decisions and writes.
func recordKeys() []key {
	const day = 24 * time.Hour
	return []key{
		link("ALERT_WEBHOOK", "where vetoes, rollbacks, yields and faults are posted", func(c *Config) *string { return &c.AlertWebhook }),
		alertSecret(),
		whole("AUDIT_KEEP_DAYS", "400", "how long the log of decisions and writes is kept", 1, 36500,
			func(c *Config, n int64) { c.AuditKeep = time.Duration(n) * day }, func(c *Config) int64 { return int64(c.AuditKeep / day) }),
		whole("AUDIT_MAX_MB", "64", "how large it may become, in MiB; the oldest goes first", 2, 1<<20,
			func(c *Config, n int64) { c.AuditBytes = n << 20 }, func(c *Config) int64 { return c.AuditBytes >> 20 }),
	}
}

// leastSecret is what makes guessing the key of a signature hopeless.
const leastSecret = 16

func alertSecret() key {
	k := text("ALERT_SECRET", "key of the alerts' HMAC signature; unset, they are not signed", "at least 16 characters", true,
		func(c *Config) *string { return &c.AlertSecret })
	plain := k.set
	k.set = func(c *Config, v string) error {
		if v != "" && len(v) < leastSecret {
			return errNotAccepted
		}
		return plain(c, v)
	}
	return k
}

// whole reads a number without a fraction.
func whole(name, def, help string, low, high int64, set func(*Config, int64), show func(*Config) int64) key {
	return key{
		name: name, def: def, help: help, accepts: fmt.Sprintf("a whole number from %d to %d", low, high),
		set: func(c *Config, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < low || n > high {
				return errNotAccepted
			}
			set(c, n)
			return nil
		},
		show: func(c *Config) string { return strconv.FormatInt(show(c), 10) },
	}
}
