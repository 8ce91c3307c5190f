package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Config says where alerts go. Say tells people, GaveUp is told of what reached nobody; both may be nil.
type Config struct {
	URL    string
	Secret string
	Dir    func() string // of the spool: the user's that serve runs as. Its disk may hang
	Host   string
	Now    func() time.Time
	Rand   *rand.Rand
	Say    func(format string, args ...any)
	GaveUp func(a Alert, why string)

	most int // alerts in the spool; 0: maxSpool
}

// Counts are since the start.
type Counts struct {
	Posted    uint64 // asked for
	Delivered uint64
	Retried   uint64 // attempts that failed and are tried again
	Failed    uint64 // given up
	Dropped   uint64 // never tried: no room
	Folded    uint64 // not sent by themselves: too many alike
	Waiting   uint64 // now
}

// Sender delivers in the background. Post never waits.
type Sender struct {
	cfg    Config
	client *http.Client
	in     chan Alert
	stop   context.CancelFunc
	done   chan struct{}
	ready  chan struct{} // closed when nothing waits any more and Close was called

	spool  *spool
	memory []*item // what could not be spooled
	folds  folds
	said   bool             // that alerts do not outlive us
	known  map[string]*item // newest state of what is spooled, where the disk may have an older one
	sent   map[string]bool  // delivered, but still in the spool
	misses int              // attempts that failed in a row, whatever the alert
	pause  time.Time        // nothing is tried before

	mu      sync.Mutex
	counts  Counts
	lost    int // since the last alert that was made
	closing bool
}

// Bounds of retrying: from a second to five minutes, for a day at least.
const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute
	giveUp    = 24 * time.Hour
	leastTry  = 12
	lookEvery = 5 * time.Second
	maxQueue  = 256
)

// New starts a sender, which first delivers what an earlier process left.
func New(cfg Config) *Sender { return start(cfg, newClient()) }

func start(cfg Config, client *http.Client) *Sender {
	if cfg.most == 0 {
		cfg.most = maxSpool
	}
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.GaveUp == nil {
		cfg.GaveUp = func(Alert, string) {}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sender{cfg: cfg, client: client, in: make(chan Alert, maxQueue), stop: stop, done: make(chan struct{}),
		ready: make(chan struct{}), folds: folds{}, known: map[string]*item{}, sent: map[string]bool{}}
	go s.run(ctx)
	return s
}

// Post hands an alert over. It never waits: what finds no room is counted, and the next one says how many.
func (s *Sender) Post(a Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Posted++
	if !s.closing {
		select {
		case s.in <- a:
			return
		default:
		}
	}
	s.counts.Dropped++
	s.lost++
}

func (s *Sender) drop(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Dropped += uint64(n)
	s.lost += n
}

func (s *Sender) count(change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// Counts says how alerts fare.
func (s *Sender) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// closeGrace is what the end waits for the spool: a command on a dead disk ends all the same.
const closeGrace = 3 * time.Second

// Close waits until everything is delivered, or until ctx ends: the rest stays in the spool for the next
// serve or command.
func (s *Sender) Close(ctx context.Context) {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.in)
	}
	s.mu.Unlock()
	select {
	case <-s.ready:
	case <-ctx.Done():
	}
	s.stop()
	select {
	case <-s.done:
	case <-time.After(closeGrace):
	}
}

func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	defer func() {
		if s.spool != nil {
			s.spool.close()
		}
	}()
	in := s.in
	for {
		wait := s.work(ctx, in == nil)
		if in == nil && wait == nothing {
			close(s.ready)
			return
		}
		timer := time.NewTimer(min(wait, lookEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.spoolRest(in)
			return
		case a, ok := <-in:
			if !ok {
				in = nil
				s.foldEnds(true)
			} else {
				s.accept(a)
			}
		case <-timer.C:
			s.foldEnds(false)
		}
		timer.Stop()
	}
}

// spoolRest puts what still waits in memory on disk.
func (s *Sender) spoolRest(in chan Alert) {
	for more := in != nil; more; {
		select {
		case a, ok := <-in:
			if more = ok; ok {
				s.accept(a)
			}
		default:
			more = false
		}
	}
	s.foldEnds(true)
	for _, it := range s.memory {
		if !s.open() || s.spool.put(it) != nil {
			s.drop(1)
		}
	}
}

// accept makes an item of an alert, unless too many alike came.
func (s *Sender) accept(a Alert) {
	if s.folds.fold(a, s.cfg.Now()) {
		s.count(func(c *Counts) { c.Folded++ })
		return
	}
	s.keep(a)
}

func (s *Sender) foldEnds(all bool) {
	for _, a := range s.folds.ended(s.cfg.Now(), all) {
		s.keep(a)
	}
}

func (s *Sender) keep(a Alert) {
	now := s.cfg.Now()
	s.mu.Lock()
	a.Dropped, s.lost = s.lost, 0
	s.mu.Unlock()
	a = a.fill(s.cfg.Host, now)
	body, err := json.Marshal(a)
	if err != nil || len(body) > maxOne/2 {
		s.drop(1)
		return
	}
	it := &item{Body: body, ID: a.ID, First: now, Next: now}
	if !s.open() || s.spool.put(it) != nil {
		s.memory = append(s.memory, it) // tried from here; it does not outlive us
		if over := len(s.memory) - maxQueue; over > 0 {
			s.memory = s.memory[over:]
			s.drop(over)
		}
		return
	}
	s.bounded()
}

func (s *Sender) open() bool {
	if s.spool == nil {
		sp, err := openSpool(s.cfg.Dir())
		if err != nil {
			if !s.said {
				s.cfg.Say("alerts do not outlive this process: %v", err)
				s.said = true
			}
			return false
		}
		s.spool = sp
	}
	return true
}

// nothing waits.
const nothing = time.Duration(1<<63 - 1)

// work delivers what is due and gives the time until something else is. One failure ends the round: the hook
// is away, and what waits must not each wait for it.
func (s *Sender) work(ctx context.Context, closing bool) time.Duration {
	if wait := s.pause.Sub(s.cfg.Now()); wait > 0 && wait <= maxWait+mostWait {
		return wait // the hook is away
	}
	items := s.waiting()
	slices.SortStableFunc(items, func(a, b *item) int { return a.Next.Compare(b.Next) })
	s.count(func(c *Counts) { c.Waiting = uint64(len(items)) })
	for len(items) > 0 && ctx.Err() == nil {
		if until := s.until(items[0]); until > 0 {
			return until
		}
		if s.try(ctx, items[0]) {
			items = items[1:]
			s.count(func(c *Counts) { c.Waiting = uint64(len(items)) })
			continue
		}
		return max(time.Millisecond, s.until(items[0]))
	}
	if !closing || ctx.Err() != nil {
		return lookEvery
	}
	return nothing
}

// until is how long an item waits yet. A clock that was set back does not make it wait for years.
func (s *Sender) until(it *item) time.Duration {
	now := s.cfg.Now()
	next := it.Next
	if s.pause.After(next) {
		next = s.pause
	}
	if wait := next.Sub(now); wait <= maxWait+mostWait {
		return wait
	}
	return 0
}

// waiting lists what this process is to deliver: all of the spool, if no other process does.
func (s *Sender) waiting() []*item {
	items := slices.Clone(s.memory)
	if !s.open() || !s.spool.claim() {
		return items
	}
	for _, name := range s.bounded() {
		it, err := s.spool.get(name)
		switch {
		case errors.Is(err, errNoAlert):
			_ = s.spool.remove(&item{name: name}) // a crash's, or nobody's
			s.drop(1)
		case err == nil && s.sent[it.ID]:
			s.forget(it)
		case err == nil:
			if newer := s.known[name]; newer != nil && newer.Tries > it.Tries {
				it = newer
			}
			items = append(items, it)
		}
	}
	return items
}

// bounded lists the spool, and drops the oldest beyond its bound.
func (s *Sender) bounded() []string {
	names, err := s.spool.names()
	if err != nil {
		return nil
	}
	if over := len(names) - s.cfg.most; over > 0 {
		for _, name := range names[:over] {
			delete(s.known, name)
			_ = s.spool.remove(&item{name: name}) // tried again at the next look
		}
		s.drop(over)
		names = names[over:]
	}
	return names
}

// try makes one attempt, and reports whether the item is done with.
func (s *Sender) try(ctx context.Context, it *item) bool {
	got := s.post(ctx, it.ID, it.Body)
	if ctx.Err() != nil && !got.ok {
		return false // we are ending: the hook is not to blame
	}
	now := s.cfg.Now()
	it.Tries++
	old := now.Sub(it.First) > giveUp && it.Tries >= leastTry
	switch {
	case got.ok:
		s.count(func(c *Counts) { c.Delivered++ })
		s.misses, s.pause = 0, time.Time{}
	case got.final || old:
		s.count(func(c *Counts) { c.Failed++ })
		s.cfg.Say("an alert was given up, %s: %s", place(s.cfg.URL), got.why)
		var a Alert
		if json.Unmarshal(it.Body, &a) == nil {
			s.cfg.GaveUp(a, got.why)
		}
	default:
		s.later(it, got, now)
		return false
	}
	s.forget(it)
	return true
}

func (s *Sender) later(it *item, got answer, now time.Time) {
	s.count(func(c *Counts) { c.Retried++ })
	if s.misses++; s.misses == 1 {
		s.cfg.Say("an alert waits, %s: %s", place(s.cfg.URL), got.why)
	}
	s.pause = now.Add(max(got.wait, backoff(s.misses, s.cfg.Rand.Float64())))
	it.Next = now.Add(max(got.wait, backoff(it.Tries, s.cfg.Rand.Float64())))
	it.Last = got.why
	if it.name != "" {
		s.known[it.name] = it
		_ = s.spool.put(it) // an older state only means an attempt too early, after a restart
	}
}

// backoff doubles from a second to five minutes; chance takes up to half of it away, so that many hosts do
// not come back at once.
func backoff(tries int, chance float64) time.Duration {
	d := mostWait
	if tries < 10 {
		d = min(mostWait, firstWait<<(tries-1))
	}
	return d - time.Duration(chance*float64(d)/2)
}

func (s *Sender) forget(it *item) {
	if it.name == "" {
		s.memory = slices.DeleteFunc(s.memory, func(m *item) bool { return m == it })
		return
	}
	delete(s.known, it.name)
	if err := s.spool.remove(it); err != nil {
		if !s.sent[it.ID] {
			s.cfg.Say("what was done with stays in the spool of alerts: %v", err)
		}
		s.sent[it.ID] = true
		return
	}
	delete(s.sent, it.ID)
}

// place names a hook without what may be its secret.
func place(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the webhook"
	}
	return fmt.Sprintf("%s://%s", u.Scheme, u.Host)
}
