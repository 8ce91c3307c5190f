package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The headers. The signature is "t=UNIX,v1=HEX": HMAC-SHA256 with the secret over the time, a dot and the
// body's exact bytes, so that an old alert cannot be sent again as a new one.
const (
	HeaderID        = "X-Semantos-Id"
	HeaderSignature = "X-Semantos-Signature"
)

// Bounds of one attempt.
const (
	dialTime   = 5 * time.Second
	headerTime = 10 * time.Second
	wholeTime  = 15 * time.Second
)

// Sign gives the signature header's value.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t))
	mac.Write([]byte("."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

func newClient() *http.Client {
	return &http.Client{
		Timeout: wholeTime,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSHandshakeTimeout: dialTime, ResponseHeaderTimeout: headerTime, MaxResponseHeaderBytes: 16 << 10, DisableKeepAlives: true},
		// The hook's word does not send alerts elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what one attempt came to.
type answer struct {
	ok    bool
	final bool          // trying again would not help
	wait  time.Duration // asked for by the hook
	why   string        // never the hook's own words
}

// post makes one attempt.
func (s *Sender) post(ctx context.Context, id string, body []byte) answer {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return answer{final: true, why: "the address cannot be used"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "semantos")
	req.Header.Set(HeaderID, id)
	if s.cfg.Secret != "" {
		req.Header.Set(HeaderSignature, Sign(s.cfg.Secret, s.cfg.Now(), body))
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{why: plain(err)}
	}
	_ = res.Body.Close() // the status has come: what the hook says beside it is not read
	return judge(res.StatusCode, res.Header.Get("Retry-After"), s.cfg.Now())
}

// judge reads a status. A redirect is not followed, and what the client did wrong stays wrong.
func judge(status int, retryAfter string, now time.Time) answer {
	a := answer{why: fmt.Sprintf("it answered %d", status), wait: waitOf(retryAfter, now)}
	switch {
	case status >= 200 && status < 300:
		return answer{ok: true}
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
	case status >= 300 && status < 400:
		a.final, a.why = true, fmt.Sprintf("it answered %d, and redirects are not followed", status)
	default:
		a.final = true
	}
	return a
}

// maxWait bounds what a hook may ask for.
const maxWait = time.Hour

func waitOf(header string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(header, 10, 31); err == nil {
		return min(maxWait, time.Duration(n)*time.Second)
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(maxWait, max(0, at.Sub(now)))
	}
	return 0
}

// plain drops the address from an error: a hook's path is often its secret.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it did not answer in time"
	}
	return err.Error()
}
