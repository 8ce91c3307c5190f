package console

import (
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

// History is the answer of /history.
type History struct {
	Rollouts []tune.Rollout `json:"rollouts"`
}

func (c *Console) status(ctx echo.Context) error {
	s, err := c.cfg.Records.Status(ctx.Request().Context())
	if err != nil {
		return err
	}
	s.Rollouts, s.Managed = rollouts(s.Rollouts), list(s.Managed)
	s.Loop.Resting, s.Loop.Yielded, s.Loop.Leftovers = list(s.Loop.Resting), list(s.Loop.Yielded), list(s.Loop.Leftovers)
	if s.Loop.Decisions == nil {
		s.Loop.Decisions = map[string]int64{}
	}
	s.Calibration = calibration(s.Calibration)
	return answer(ctx, s)
}

const historyDefault, historyLimit = 50, 1000

func (c *Console) history(ctx echo.Context) error {
	q := HistoryQuery{ID: ctx.QueryParam("id"), Limit: historyDefault}
	if text := ctx.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > historyLimit {
			return refuse(http.StatusBadRequest, "give a number from 1 to 1000", "limit %q", text)
		}
		q.Limit = n
	}
	found, err := c.cfg.Records.History(ctx.Request().Context(), q)
	if err != nil {
		return err
	}
	return answer(ctx, History{Rollouts: rollouts(found)})
}

// rollouts makes absent lists empty, as tidy does.
func rollouts(rs []tune.Rollout) []tune.Rollout {
	out := make([]tune.Rollout, len(rs))
	for i, r := range rs {
		out[i] = rollout(r)
	}
	return out
}

func rollout(r tune.Rollout) tune.Rollout {
	r.Stages = list(r.Stages)
	r.Recommendation = recommendation(r.Recommendation)
	return r
}

func recommendation(r tune.Recommendation) tune.Recommendation {
	r.Changes = list(r.Changes)
	r.Provenance.Voters = list(r.Provenance.Voters)
	return r
}
