package console

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

func (c *Console) getRecommendations(ctx echo.Context) error {
	var req RecommendRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.WindowS < 0 || req.WindowS > 3600 {
		return refuse(http.StatusBadRequest, "give seconds from 0 to 3600", "window_s %v", req.WindowS)
	}
	a, err := c.cfg.Adviser.Recommend(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	recs := make([]tune.Recommendation, len(a.Recommendations))
	for i, r := range a.Recommendations {
		recs[i] = recommendation(r)
	}
	a.Recommendations, a.Symptoms, a.Snapshot = recs, list(a.Symptoms), tidy(a.Snapshot)
	return answer(ctx, a)
}

// apply answers with the finished rollout, or with Accept: text/event-stream tells its progress first.
// A client that leaves ends the trial: what is not committed is put back.
func (c *Console) apply(ctx echo.Context) error {
	var req ApplyRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	if req.Meter != "" && !strings.HasPrefix(req.Meter, "ebpf:") && !strings.HasPrefix(req.Meter, "device:") {
		return refuse(http.StatusBadRequest, "semantos apply --meter measures with others in the command line", "serve runs ebpf: and device: meters only")
	}
	req.Actor = actor(ctx)
	if accepts(ctx, "text/event-stream") {
		return c.applyStreaming(ctx, req)
	}
	r, err := c.cfg.Rollouts.Apply(ctx.Request().Context(), req, c.cfg.Hub.Publish)
	if err != nil {
		return err
	}
	return answer(ctx, rollout(r))
}

func (c *Console) applyStreaming(ctx echo.Context, req ApplyRequest) error {
	s := newStream(ctx)
	defer s.end()
	r, err := c.cfg.Rollouts.Apply(ctx.Request().Context(), req, func(e Event) {
		c.cfg.Hub.Publish(e)
		s.send("progress", e)
	})
	if err != nil {
		if !s.begun() {
			return err // nothing was said yet: an ordinary problem with its status
		}
		s.send("problem", problemOf(err))
		return nil
	}
	s.send("rollout", rollout(r))
	return nil
}

func (c *Console) rollback(ctx echo.Context) error {
	var req RollbackRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.All && req.ID != "" {
		return refuse(http.StatusBadRequest, "give id or all", "id and all together")
	}
	req.Actor = actor(ctx)
	res, err := c.cfg.Rollouts.Rollback(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, RollbackResult{Rollouts: rollouts(res.Rollouts), Restored: list(res.Restored)})
}

func (c *Console) advance(ctx echo.Context) error {
	var req AdvanceRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	r, err := c.cfg.Rollouts.Advance(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, rollout(r))
}

func (c *Console) hold(ctx echo.Context) error {
	var req HoldRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if err := checkWhy(req.Why); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	s, err := c.cfg.Rollouts.Hold(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	s.Resting, s.Yielded, s.Leftovers = list(s.Resting), list(s.Yielded), list(s.Leftovers)
	if s.Decisions == nil {
		s.Decisions = map[string]int64{}
	}
	return answer(ctx, s)
}

func (c *Console) abort(ctx echo.Context) error {
	var req AbortRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.ID == "" {
		return refuse(http.StatusBadRequest, "give the id of a rollout; /status lists what runs and waits", "no id to abort")
	}
	if err := checkWhy(req.Why); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	r, err := c.cfg.Rollouts.Abort(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, rollout(r))
}

func (c *Console) freeze(ctx echo.Context) error {
	var req FreezeRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if !req.Freeze && req.Why != "" {
		return refuse(http.StatusBadRequest, "give why with freeze true only", "a reason to thaw is kept nowhere")
	}
	if err := checkWhy(req.Why); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	res, err := c.cfg.Rollouts.Freeze(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	res.Rollouts, res.Restored = rollouts(res.Rollouts), list(res.Restored)
	return answer(ctx, res)
}

func (c *Console) sample(ctx echo.Context) error {
	var req SampleRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.Rollout == "" || (req.Sample == nil) == (req.Error == "") {
		return refuse(http.StatusBadRequest, "give rollout, seq, and sample or error", "an incomplete sample")
	}
	if err := c.cfg.Samples.Sample(ctx.Request().Context(), req); err != nil {
		return err
	}
	return ctx.NoContent(http.StatusNoContent)
}
