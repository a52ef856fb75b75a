"""The core models once more, as one would write them in pandas: for `analytics.py` to compare with.

Vectorised throughout, no loop over rows: ids become integers once, frames are sorted once, and groups are
taken over integers. Written from the definitions; only the lake's columns are shared with the SQL. Business
time is left out, as is what the models tell beyond clocks, turns, resolves and outcomes.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow.dataset as pads

TablePath = tuple[str, str]
US = 1_000_000
REOPENING_US = 7 * 86_400 * US
IDLE_US = 300 * US


def micros(instants: pd.Series) -> pd.Series:
    """Instants as integers of microseconds; missing ones as missing."""
    whole = instants.astype("datetime64[us, UTC]").astype("int64")
    return whole.astype("Int64").mask(instants.isna())


def seconds(since: pd.Series, until: pd.Series) -> pd.Series:
    """From one to the other; missing where one is, or where it would be negative."""
    passed = (until - since).astype("Float64")
    return (passed / 1e6).mask(passed < 0)


class Core:
    """The core models over a lake, each made when first asked for."""

    def __init__(
        self, files: Mapping[TablePath, Sequence[str]], *, zone: str, targets: Sequence[int]
    ) -> None:
        """Name the lake.

        Args:
            files: Parquet files of the lake's tables.
            zone: IANA zone of local days.
            targets: RESPONSE_TARGETS in seconds.
        """
        self._files = files
        self._zone = zone
        self._targets = targets

    def table(self, path: TablePath) -> pd.DataFrame:
        """One of the models, its columns named as declared, some left out."""
        frame: pd.DataFrame = getattr(self, path[1])
        return frame

    def _read(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        table = pads.dataset(list(self._files["lake", name])).to_table(columns=list(columns))
        return table.to_pandas(date_as_object=False)

    @cached_property
    def _talks(self) -> pd.DataFrame:
        talks = self._read(
            "conversations",
            [
                *("partition", "conversation_id", "user_id", "agent_id", "channel", "language", "status"),
                *("traffic_class", "started_at", "ended_at", "csat_score", "source_updated_at"),
            ],
        )
        talks["channel"] = talks["channel"].fillna("unknown")
        return talks

    @cached_property
    def stg_messages(self) -> pd.DataFrame:
        """One row per message, in order, typed, without its text."""
        m = self._read(
            "messages",
            [
                *("partition", "conversation_id", "message_id", "seq", "sender_type", "sender_id"),
                *("is_private", "text", "language", "language_detected", "created_at", "source_updated_at"),
            ],
        )
        m["text_chars"] = m.pop("text").str.len().fillna(0).astype("int64")
        m["created_us"] = micros(m["created_at"]).astype("int64")
        m["source_updated_us"] = micros(m.pop("source_updated_at")).astype("int64")
        codes = pd.Index(self._talks["conversation_id"])
        m["talk"] = codes.get_indexer(m["conversation_id"])
        m["order"] = m["seq"].fillna(2**31 - 1)
        m = m.sort_values(["talk", "created_us", "order", "message_id"], ignore_index=True)
        m["message_no"] = m.groupby("talk").cumcount() + 1
        local = m.pop("created_at").dt.tz_convert(self._zone)
        m["local_date"] = local.dt.tz_localize(None).dt.normalize()
        m["local_hour"] = local.dt.hour.astype("int64")
        m["local_isodow"] = local.dt.dayofweek.astype("int64") + 1
        m["side"] = m["sender_type"].map({"user": "user", "bot": "staff", "agent": "staff"})
        m["is_counted"] = (m["sender_type"] != "system") & ~m["is_private"]
        return self._with_languages(m).drop(columns=["order", "talk_language"])

    def _with_languages(self, m: pd.DataFrame) -> pd.DataFrame:
        talks = self._talks[["user_id", "traffic_class", "channel", "language"]]
        of = talks.rename(columns={"language": "talk_language"}).take(m["talk"]).reset_index(drop=True)
        m = pd.concat([m.rename(columns={"language": "language_declared"}), of], axis=1)
        declared, detected = m["language_declared"], m["language_detected"]
        known = detected.mask(detected == "und")
        m["language"] = known.fillna(declared).fillna(m["talk_language"]).fillna("und")
        both = (declared != "und").fillna(False) & (detected != "und").fillna(False)
        both &= declared.notna() & detected.notna()
        alike = declared.str.lower().str.split("-").str[0] == detected.str.lower().str.split("-").str[0]
        m["detection_agrees"] = alike.astype("boolean").mask(~both)
        best = self._read("translations", ["message_id", "status"])
        best["rank"] = best["status"].map({"ok": 3, "failed": 2, "skipped": 1})
        rank = m["message_id"].map(best.groupby("message_id")["rank"].max())
        m["needs_translation"] = rank.notna()
        m["is_translated"] = rank == 3
        m["translation_status"] = rank.map({3: "ok", 2: "failed", 1: "skipped"})
        return m

    @cached_property
    def _counted(self) -> pd.DataFrame:
        """Counted messages, with the turn each belongs to."""
        m = self.stg_messages
        m = m[m["is_counted"]].reset_index(drop=True)
        new_talk = m["talk"] != m["talk"].shift()
        m["opens_turn"] = new_talk | (m["side"] != m["side"].shift())
        m["turn_no"] = m["opens_turn"].groupby(m["talk"]).cumsum()
        gap = m["created_us"].diff().where(~new_talk, 0)
        m["idle_us"] = gap.clip(0, IDLE_US).astype("int64")
        return m

    @cached_property
    def fct_conversation(self) -> pd.DataFrame:
        """One row per conversation: counts, clocks, turns, resolves, outcome."""
        c = self._talks.copy()
        c["started_us"] = micros(c["started_at"])
        c["ended_us"] = micros(c["ended_at"])
        c = c.join(self._counts()).join(self._clocks()).join(self._resolves())
        counts = ["messages", "user_messages", "bot_messages", "agent_messages", "user_turns", "agents"]
        c[counts] = c[counts].fillna(0).astype("int64")
        started = c["started_at"].dt.tz_convert(self._zone).dt.tz_localize(None).dt.normalize()
        c["first_message_date"] = c["first_message_date"].fillna(started)
        c["language"] = c["language"].fillna(self._spoken()).fillna("und")
        c["handed_off"] = (c["first_bot_no"] < c["last_agent_no"]).fillna(False).astype(bool)
        c["first_response_s"] = seconds(c["first_user_at_us"], c["first_any_at_us"])
        c["first_human_response_s"] = seconds(c["first_user_at_us"], c["first_human_at_us"])
        c["human_response_after_handoff_s"] = seconds(c["handoff_at_us"], c["first_human_at_us"])
        self._fall_back(c)
        c["resolution_first_s"] = seconds(c["first_message_at_us"], c["first_resolved_us"])
        c["resolution_last_s"] = seconds(c["first_message_at_us"], c["last_resolved_us"])
        self._judge(c)
        return c

    def _counts(self) -> pd.DataFrame:
        m = self._counted
        of = m.groupby("talk")
        agent = m["sender_type"] == "agent"
        found = pd.DataFrame(
            {
                "messages": of.size(),
                **{
                    f"{kind}_messages": (m["sender_type"] == kind).groupby(m["talk"]).sum()
                    for kind in ("user", "bot", "agent")
                },
                "user_turns": (m["opens_turn"] & (m["side"] == "user")).groupby(m["talk"]).sum(),
                "agents": m[agent].groupby("talk")["sender_id"].nunique(),
                "first_message_at_us": of["created_us"].min(),
                "last_message_at_us": of["created_us"].max(),
                "first_message_date": of["local_date"].first(),
                "first_bot_no": m[m["sender_type"] == "bot"].groupby("talk")["message_no"].min(),
                "last_agent_no": m[agent].groupby("talk")["message_no"].max(),
                "active_s": of["idle_us"].sum() / 1e6,
            }
        )
        whole = ["first_message_at_us", "last_message_at_us"]
        return found.astype(dict.fromkeys(whole, "Int64"))

    def _clocks(self) -> pd.DataFrame:
        m = self._counted
        first_user = m[m["side"] == "user"].groupby("talk")["created_us"].min()
        since = m["talk"].map(first_user)
        after = m[m["created_us"] >= since]
        first_human = after[after["sender_type"] == "agent"].groupby("talk")["created_us"].min()
        human = m["talk"].map(first_human)
        bots = m[(m["sender_type"] == "bot") & (m["created_us"] <= human)]
        last_bot = bots.groupby("talk")["created_us"].max()
        handoff = last_bot.reindex(first_human.index).fillna(first_user)
        at_handoff = m[m["created_us"] == m["talk"].map(handoff)]
        found = pd.DataFrame(
            {
                "first_user_at_us": first_user,
                "first_any_at_us": after[after["side"] == "staff"].groupby("talk")["created_us"].min(),
                "first_human_at_us": first_human,
                "handoff_at_us": handoff,
            }
        ).astype("Int64")
        found["first_user_date"] = m[m["created_us"] == since].groupby("talk")["local_date"].max()
        found["handoff_date"] = at_handoff.groupby("talk")["local_date"].max()
        return found

    def _spoken(self) -> pd.Series:
        """The language of most of the user's messages, the first by name of equals."""
        m = self._counted
        m = m[(m["sender_type"] == "user") & (m["language"] != "und")]
        uses = m.groupby(["talk", "language"]).size().rename("n").reset_index()
        uses = uses.sort_values(["talk", "n", "language"], ascending=[True, False, True])
        return uses.drop_duplicates("talk").set_index("talk")["language"]

    def _resolves(self) -> pd.DataFrame:
        table = pads.dataset(list(self._files["lake", "conversations"])).to_table(columns=["status_events"])
        events = table["status_events"].combine_chunks()
        flat = events.flatten()
        e = pd.DataFrame(
            {
                "talk": events.value_parent_indices().to_numpy(),
                "from": flat.field("from_status").to_pandas(),
                "to": flat.field("to_status").to_pandas(),
                "at": flat.field("at").cast("int64").to_numpy(),
            }
        )
        e = e.sort_values(["talk", "at"], kind="stable", ignore_index=True)
        e["resolve"] = e["to"] == "resolved"
        e["resolve_no"] = e["resolve"].groupby(e["talk"]).cumsum()
        resolved = e[e["resolve"]]
        of = resolved.groupby("talk")["at"]
        back = e[(e["from"] == "resolved") & (e["to"] == "open")].merge(
            resolved[["talk", "resolve_no", "at"]], on=["talk", "resolve_no"], suffixes=("", "_of")
        )
        soon = back[back["at"] - back["at_of"] <= REOPENING_US]
        return pd.DataFrame(
            {
                "resolves": e.groupby("talk")["resolve"].sum(),
                "first_resolved_us": of.min(),
                "last_resolved_us": of.max(),
                "reopens": soon.groupby("talk").size(),
                "last_undone_no": soon.groupby("talk")["resolve_no"].max(),
            }
        ).astype("Int64")

    @staticmethod
    def _fall_back(c: pd.DataFrame) -> None:
        """Without events a status of resolved is one resolve, at the end."""
        closed = c["resolves"].isna() & (c["status"] == "resolved")
        end = c["ended_us"].fillna(c["last_message_at_us"])
        for name in ("first_resolved_us", "last_resolved_us"):
            c[name] = c[name].mask(closed, end)
        c["is_undone"] = (c["last_undone_no"] == c["resolves"]).fillna(False).astype(bool)
        c["resolves"] = c["resolves"].mask(closed, 1).fillna(0).astype("int64")
        c["reopens"] = c["reopens"].fillna(0).astype("int64")

    @staticmethod
    def _judge(c: pd.DataFrame) -> None:
        bots, agents, users = c["bot_messages"] > 0, c["agent_messages"] > 0, c["user_messages"] > 0
        resolved = c["status"] == "resolved"
        c["outcome"] = np.select(
            [
                c["messages"] == 0,
                ~bots & ~agents,
                resolved & bots & ~agents & users,
                resolved,
                c["status"] == "abandoned",
                agents,
            ],
            ["empty", "unanswered", "contained", "agent_resolved", "abandoned", "agent_open"],
            "bot_open",
        )
        c["is_counted"] = c["traffic_class"] == "live"
        c["is_empty"] = c["messages"] == 0
        c["unanswered"] = users & ~bots & ~agents

    @cached_property
    def fct_wait(self) -> pd.DataFrame:
        """One row per user turn, and its answer."""
        m = self._counted
        turns = m[m["opens_turn"]]
        waits = turns[turns["side"] == "user"][
            [
                *("talk", "turn_no", "partition", "conversation_id", "created_us"),
                *("local_date", "local_hour", "local_isodow"),
            ]
        ]
        staff = turns[turns["side"] == "staff"]
        answers = staff[["talk", "turn_no", "created_us", "sender_id", "sender_type"]]
        agents = m[m["sender_type"] == "agent"].groupby(["talk", "turn_no"])["created_us"].min()
        answers = answers.join(agents.rename("human_replied_at_us"), on=["talk", "turn_no"])
        answers = answers.assign(turn_no=answers["turn_no"] - 1)
        w = waits.merge(answers, on=["talk", "turn_no"], how="left", suffixes=("", "_of"))
        w["turn_no"] = w.groupby("talk").cumcount() + 1
        w = w.rename(
            columns={
                "created_us": "waiting_since_us",
                "created_us_of": "replied_at_us",
                "sender_id": "replier_id",
                "sender_type": "replier_type",
            }
        ).astype({"replied_at_us": "Int64", "human_replied_at_us": "Int64"})
        w["reply_s"] = seconds(w["waiting_since_us"], w["replied_at_us"])
        w["human_reply_s"] = seconds(w["waiting_since_us"], w["human_replied_at_us"])
        of = self.fct_conversation[["user_id", "channel", "language", "traffic_class"]]
        return pd.concat([w, of.take(w["talk"]).reset_index(drop=True)], axis=1)

    @cached_property
    def fct_traffic(self) -> pd.DataFrame:
        """Live counted messages by partition, local hour, channel and language."""
        m = self._counted
        of = self.fct_conversation[["channel", "language"]].take(m["talk"]).reset_index(drop=True)
        m = m.drop(columns=["channel", "language"]).join(of)
        m = m[m["traffic_class"] == "live"]
        flags = pd.DataFrame(
            {
                **{f"{kind}_messages": m["sender_type"] == kind for kind in ("user", "bot", "agent")},
                "conversations_started": ~m["talk"].duplicated(),
                "conversations_active": ~m.duplicated(["talk", "local_date"]),
                "waits": m["opens_turn"] & (m["side"] == "user"),
            }
        )
        by = ["partition", "local_date", "local_hour", "local_isodow", "channel", "language"]
        return flags.groupby([m[name] for name in by]).sum().astype("int64").reset_index()

    @cached_property
    def volume(self) -> pd.DataFrame:
        """Traffic by day, channel and language, quiet days as zeros; without the backlog."""
        t = self.fct_traffic.rename(columns={"local_date": "report_date"})
        counts = [
            *("conversations_started", "conversations_active"),
            *("user_messages", "bot_messages", "agent_messages", "waits"),
        ]
        daily = t.groupby(["report_date", "channel", "language"])[counts].sum()
        pairs = t[["channel", "language"]].drop_duplicates()
        dates = pd.DataFrame({"report_date": pd.date_range(t["report_date"].min(), t["report_date"].max())})
        filled = dates.merge(pairs, how="cross").join(daily, on=["report_date", "channel", "language"])
        filled[counts] = filled[counts].fillna(0).astype("int64")
        filled["messages"] = filled[["user_messages", "bot_messages", "agent_messages"]].sum(axis=1)
        filled["month"] = filled["report_date"].dt.strftime("%Y-%m")
        return filled

    @cached_property
    def response(self) -> pd.DataFrame:
        """Response times in calendar time by day, channel, language and clock."""
        c = self.fct_conversation
        c = c[c["is_counted"]]
        w = self.fct_wait
        w = w[w["traffic_class"] == "live"]
        asked = c["first_user_at_us"].notna()
        human = asked & (c["first_human_at_us"].notna() | c["first_any_at_us"].isna())
        handed = c[c["handoff_at_us"].notna()]
        clocks = [
            ("first", c[asked], "first_user_date", "first_user_at_us", "first_any_at_us"),
            ("first_human", c[human], "first_user_date", "first_user_at_us", "first_human_at_us"),
            ("after_handoff", handed, "handoff_date", "handoff_at_us", "first_human_at_us"),
            ("reply", w, "local_date", "waiting_since_us", "replied_at_us"),
        ]
        readings = [
            rows[["channel", "language"]].assign(
                report_date=rows[date], since=rows[since].astype("Int64"), until=rows[until], clock=clock
            )
            for clock, rows, date, since, until in clocks
        ]
        return self._summed(pd.concat(readings, ignore_index=True))

    def _summed(self, r: pd.DataFrame) -> pd.DataFrame:
        passed = r["until"] - r["since"]
        r["s"] = (passed / 1e6).astype("float64")
        r["us"] = passed
        for n, target in enumerate(self._targets, 1):
            r[f"within_target_{n}"] = (passed <= target * US).fillna(False).astype("int64")
            late = self._as_of - r["since"] > target * US
            r[f"decided_{n}"] = (r["until"].notna() | late).astype("int64")
        by = ["report_date", "channel", "language", "clock"]
        of = r.groupby(by)
        found = of[[f"{name}_{n}" for n in (1, 2, 3) for name in ("within_target", "decided")]].sum()
        found["n"] = of["until"].count()
        found["n_open"] = of.size() - found["n"]
        found["sum_s"] = (of["us"].sum(min_count=1) / 1e6).astype("Float64")
        found["avg_s"] = found["sum_s"] / found["n"].mask(found["n"] == 0)
        quantiles = of["s"].quantile([0.5, 0.9, 0.95, 0.99]).unstack()
        for q in (0.5, 0.9, 0.95, 0.99):
            found[f"p{round(100 * q)}_s"] = quantiles[q]
        found["max_s"] = of["s"].max()
        found = found.reset_index().assign(hours="calendar")
        found["month"] = found["report_date"].dt.strftime("%Y-%m")
        return found

    @cached_property
    def _as_of(self) -> int:
        """The latest change of the source."""
        latest = micros(self._talks["source_updated_at"]).max()
        return int(max(latest, self.stg_messages["source_updated_us"].max()))
