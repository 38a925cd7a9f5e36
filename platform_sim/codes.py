# ruff: noqa: RUF001  (Chinese sentences have Chinese commas)
"""The errors of the order API: code, HTTP status and message, one table.

Two generations of codes exist, and the documents mix them: five digits in every sample, four in
the table of 2024-06-12. A five-digit code is taken where there is one for the case, else the
four digits.
The HTTP status of a failure is not documented beyond "not 200" and the 401 of the headers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    number: int
    http: int
    message: str


BAD_REQUEST = Code(400, 400, "请求无效")
NOT_FOUND = Code(404, 404, "接口不存在")
NOT_ALLOWED = Code(6021, 405, "请求方式不允许")
FORM = Code(10001, 400, "参数校验失败")
NO_APPID = Code(10008, 401, "appid 或 secret 为空")
BAD_SECRET = Code(10013, 401, "secret 无效")
BAD_APPID = Code(10014, 401, "appid 无效")
NO_MACHINE = Code(30003, 404, "设备不存在")
OFFLINE = Code(30002, 400, "设备离线")
NOT_OPERATING = Code(30004, 400, "设备未运营")
ORDER_EXPIRED = Code(40005, 400, "订单已过期")
ORDER_STATUS = Code(40006, 400, "订单状态无效")
OFF_SALE = Code(60002, 400, "商品已下架")
NO_STOCK = Code(60003, 400, "商品库存不足")
NO_RECORD = Code(80002, 404, "记录不存在")
BAD_SIGNATURE = Code(4006, 400, "签名无效")
DELIVERED = Code(6034, 400, "订单已出货")
TRADE_EXISTS = Code(6040, 400, "商户订单号已存在")
NO_TRADE = Code(6041, 400, "商户订单号为空")
NO_PRODUCT = Code(6045, 404, "商品不存在")
PAID = Code(6049, 400, "订单已支付")
UNPAID = Code(6054, 400, "订单未支付")
BUSY = Code(6015, 503, "设备繁忙，请稍后重试")
"""No code is published for a machine whose queue is full; this one is of an action out of time."""
INTERNAL = Code(500, 500, "服务器内部错误")


class ApiError(Exception):
    """Refuses a request; nothing of its transaction stays."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.number} {code.message} {detail}".strip())
        self.code = code
        self.detail = detail
        """In English, for the developer who reads the answer: what is wrong, and where."""
