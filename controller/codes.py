# ruff: noqa: RUF001  (Chinese sentences have Chinese commas)
"""What each code means to a person, in English and Chinese, and what a backend does with it.

One table for rejections, answers to a cancel, reasons of a result and codes of a
response. Messages, documents and the technician's tool read it; nothing else
words a code.

What to do, for a code of an `order` message:

* REFUND: nothing of this command moved or will move. Give the money back, or send
  the command anew with a newer `issued_at`.
* WAIT: the machine has not spoken its last word; results follow.
* ASK: nobody can say from here what moved. Book `unknown`, ask `request/results`
  or a person; never send the command anew.

The codes of a result follow its `outcome`, see `backend_action`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from controller.model import Code, Executed, Outcome, Reason


class Action(StrEnum):
    """What a backend does with a code."""

    NONE = "none"
    REFUND = "refund"
    WAIT = "wait"
    ASK = "ask"


class ResponseCode(StrEnum):
    """Codes of `response/…` messages that are not codes of an order."""

    UNKNOWN_VERB = "unknown_verb"
    NOT_ALLOWED = "not_allowed"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Meaning:
    en: str
    zh: str
    action: Action


CODES: Mapping[Code, Meaning] = MappingProxyType(
    {
        Code.BAD_JSON: Meaning(
            "The payload is not one JSON object in UTF-8.",
            "消息内容不是有效的 UTF-8 JSON 对象。",
            Action.REFUND,
        ),
        Code.BAD_FIELD: Meaning(
            "A field is missing, has the wrong type or is out of its range.",
            "字段缺失、类型错误或超出范围。",
            Action.REFUND,
        ),
        Code.TOO_LARGE: Meaning(
            "The payload is larger than 64 KiB and was not read.",
            "消息超过 64 KiB，未读取。",
            Action.REFUND,
        ),
        Code.TOO_MANY_UNITS: Meaning(
            "The command asks for more units than the machine allows in one command.",
            "单次指令的商品数量超过设备上限。",
            Action.REFUND,
        ),
        Code.WRONG_MACHINE: Meaning(
            "The machine_no in the payload is not this machine's.",
            "消息中的设备编号与本设备不符。",
            Action.REFUND,
        ),
        Code.RETAINED: Meaning(
            "Commands must not be published as retained messages; it was not executed.",
            "指令不得以保留消息(retained)发布，未执行。",
            Action.REFUND,
        ),
        Code.BAD_SIGNATURE: Meaning(
            "The command is not signed with a key that this machine knows.",
            "指令签名无效或密钥未知。",
            Action.REFUND,
        ),
        Code.REPLAYED: Meaning(
            "This signed command was seen before; it was not executed again.",
            "该签名指令已出现过，未再次执行。",
            Action.ASK,
        ),
        Code.EXPIRED: Meaning(
            "The command came after its expires_at.",
            "指令到达时已过期。",
            Action.REFUND,
        ),
        Code.NOT_YET_VALID: Meaning(
            "issued_at lies in the machine's future; compare the clocks.",
            "指令签发时间晚于设备时间，请核对时钟。",
            Action.REFUND,
        ),
        Code.CONFLICT: Meaning(
            "Another command with this identity or this trade_id is known; nothing of it changed.",
            "相同订单号或商户单号已有不同内容的指令，原指令不受影响。",
            Action.ASK,
        ),
        Code.CANCELLED: Meaning(
            "The command was cancelled before it came.",
            "指令到达前已被取消。",
            Action.REFUND,
        ),
        Code.UNKNOWN_PRODUCT: Meaning(
            "No lane of this machine holds the product.",
            "本设备没有该商品的货道。",
            Action.REFUND,
        ),
        Code.UNKNOWN_CHANNEL: Meaning(
            "This machine has no such channel, or it holds another product.",
            "货道不存在，或货道中是其他商品。",
            Action.REFUND,
        ),
        Code.OUT_OF_STOCK: Meaning(
            "Not every unit has a lane with stock.",
            "库存不足，无法满足全部商品。",
            Action.REFUND,
        ),
        Code.OUT_OF_SERVICE: Meaning(
            "The lanes for this command are out of service.",
            "所需货道或柜体停用。",
            Action.REFUND,
        ),
        Code.SERVICE_MODE: Meaning(
            "A technician has the machine in service mode.",
            "设备处于维护模式。",
            Action.REFUND,
        ),
        Code.JOURNAL_UNWRITABLE: Meaning(
            "The machine cannot write its journal; no motor moves until it can.",
            "设备日志无法写入，恢复前不会出货。",
            Action.REFUND,
        ),
        Code.JOURNAL_RESET: Meaning(
            "Issued before this machine's memory begins; it may have been executed.",
            "指令早于设备现有记录，可能已执行过。",
            Action.ASK,
        ),
        Code.BUSY: Meaning(
            "The machine has as many waiting commands as it takes; try later.",
            "排队指令已达上限，请稍后再试。",
            Action.REFUND,
        ),
        Code.CLOCK_UNSET: Meaning(
            "The machine does not know the time yet and cannot judge deadlines.",
            "设备时间未同步，无法判断时效。",
            Action.REFUND,
        ),
        Code.SHUTTING_DOWN: Meaning(
            "The machine is shutting down.",
            "设备正在关机。",
            Action.REFUND,
        ),
        Code.OK: Meaning("Done.", "成功。", Action.NONE),
        Code.UNKNOWN_ORDER: Meaning(
            "This machine does not know the order; should it still come, it will be refused.",
            "设备没有该订单记录；若之后到达将被拒绝。",
            Action.REFUND,
        ),
        Code.TOO_LATE: Meaning(
            "No unit was still waiting; results say what became of each.",
            "没有可取消的商品，请以出货结果为准。",
            Action.WAIT,
        ),
        Code.RESULTS_PRUNED: Meaning(
            "The details of this old order are gone; its counts remain.",
            "历史订单明细已清理，仅保留数量统计。",
            Action.NONE,
        ),
    }
)

REASONS: Mapping[Reason, tuple[str, str]] = MappingProxyType(
    {
        Reason.JAMMED: ("The lane jammed.", "货道卡货。"),
        Reason.NO_DROP: ("The motor turned and no drop was seen.", "电机已转动，未检测到掉货。"),
        Reason.NOT_STARTED: ("The motor did not start.", "电机未启动。"),
        Reason.EYE_BLOCKED: ("Something lies in the light eye.", "光眼被遮挡。"),
        Reason.EYE_FAULTY: ("The light eye does not work.", "光眼故障。"),
        Reason.MOTOR_MISSING: ("No motor is connected there.", "未检测到电机。"),
        Reason.MOTOR_FAULT: ("The motor draws a wrong current.", "电机电流异常。"),
        Reason.LANE_EMPTY: ("The lane is empty.", "货道已空。"),
        Reason.LANE_DISABLED: (
            "The lane is out of sale: taken out by hand, suspended or in doubt.",
            "货道已停售：人工停用、自动停用或状态存疑。",
        ),
        Reason.DOOR_OPEN: ("The door is open.", "柜门未关。"),
        Reason.BOARD_OFFLINE: ("The board does not answer.", "控制板离线。"),
        Reason.BOARD_REFUSED: ("The board refused the command.", "控制板拒绝执行。"),
        Reason.EXPIRED: ("Its time was over before the motor started.", "启动电机前已超时。"),
        Reason.CANCELLED: ("It was cancelled before the motor started.", "启动电机前已取消。"),
        Reason.SERVICE_MODE: ("A technician took the machine over.", "设备进入维护模式。"),
        Reason.POWER_LOST: ("The power failed.", "设备断电。"),
        Reason.NO_ANSWER: (
            "The board did not answer the drive command.",
            "控制板对出货指令无应答。",
        ),
        Reason.CYCLE_TIMEOUT: ("The cycle did not end in its time.", "出货动作超时。"),
        Reason.BOARD_RESTARTED: ("The board restarted during the cycle.", "出货过程中控制板重启。"),
        Reason.BOARD_FORGOT: (
            "The board has no record of the cycle.",
            "控制板没有该次出货的记录。",
        ),
        Reason.MOTOR_DID_NOT_STOP: ("The motor did not stop.", "电机未停止。"),
        Reason.STOPPED: ("The cycle was stopped by hand.", "出货被人工停止。"),
        Reason.TERMINATED: ("The board broke the cycle off.", "控制板中止了出货。"),
        Reason.EYE_FAILED: ("The light eye failed during the cycle.", "出货过程中光眼失效。"),
        Reason.CONFLICTING_EVIDENCE: ("The board's words contradict.", "控制板信息相互矛盾。"),
    }
)

RESPONSES: Mapping[ResponseCode, Meaning] = MappingProxyType(
    {
        ResponseCode.UNKNOWN_VERB: Meaning(
            "This machine knows no such request.", "设备不支持该请求。", Action.NONE
        ),
        ResponseCode.NOT_ALLOWED: Meaning(
            "This request is switched off on this machine.", "该请求在本设备上未启用。", Action.NONE
        ),
        ResponseCode.UNAVAILABLE: Meaning(
            "The machine cannot answer this now; ask again later.",
            "设备暂时无法应答，请稍后再试。",
            Action.WAIT,
        ),
        ResponseCode.REFUSED: Meaning(
            "The machine does not do that now; `data.error` says why.",
            "设备目前拒绝该操作，原因见 data.error。",
            Action.NONE,
        ),
        ResponseCode.INTERRUPTED: Meaning(
            "It was begun, and how it ended is not known: look before it is asked anew.",
            "该操作已开始，结果未知，请先查看再重新请求。",
            Action.ASK,
        ),
    }
)


def coded(code: str) -> Code | ResponseCode:
    """Raises ValueError for a code that is neither's."""
    return ResponseCode(code) if code in set(ResponseCode) else Code(code)


def meaning(code: Code | ResponseCode) -> Meaning:
    return CODES[code] if isinstance(code, Code) else RESPONSES[code]


_BY_OUTCOME: Mapping[Outcome, Action] = MappingProxyType(
    {
        Outcome.DELIVERED: Action.NONE,
        Outcome.NOT_DELIVERED: Action.REFUND,
        Outcome.UNKNOWN: Action.ASK,
    }
)


def backend_action(outcome: Outcome) -> Action:
    """What to do with one unit's result. The reason only explains it to people."""
    return _BY_OUTCOME[outcome]


def rejection_action(code: Code, executed: Executed) -> Action:
    """What to do with an `order` message: what may have been executed is never simply refunded."""
    action = CODES[code].action
    return Action.ASK if action is Action.REFUND and executed is Executed.UNKNOWN else action
