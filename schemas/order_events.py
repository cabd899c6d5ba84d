"""Payloads from a cart to its delivery (contract 3.1 to 3.5 and 3.7)."""

from typing import Literal, Self

from pydantic import model_validator

from schemas.base import (
    AtLeastOne,
    Count,
    Currency,
    DateTime,
    Duration,
    Model,
    NonNegative,
    Percentage,
    Ratio,
    Text,
)
from schemas.shared import Device, Geo, Money

PaymentMethod = Literal["credit_card", "debit_card", "upi", "paytm", "google_pay", "bank_transfer", "cash_on_delivery"]


class CartItem(Model):
    """One line of a cart."""

    product_id: Text
    quantity: AtLeastOne
    price: NonNegative
    category: Text


class CartEvent(Model):
    """3.1; `items_added` is required when `action` is `item_added`."""

    cart_id: Text
    action: Literal["item_added", "item_removed", "item_updated", "cart_viewed", "cart_cleared"]
    items_added: list[CartItem] | None = None
    cart_total: Money
    cart_abandonment_duration: Duration
    coupon_code: Text | None = None
    device: Device | None = None
    geo: Geo | None = None

    @model_validator(mode="after")
    def _added_items_are_named(self) -> Self:
        if self.action == "item_added" and not self.items_added:
            raise ValueError("items_added is required when action is item_added")
        return self


class CheckoutEvent(Model):
    """3.2."""

    cart_id: Text
    checkout_status: Literal["started", "completed", "abandoned", "failed"]
    total_order_value: Money
    number_of_items: AtLeastOne
    applied_discounts: NonNegative
    payment_method: PaymentMethod
    shipping_region: Text
    checkout_duration: Duration
    session_id: Text


class PaymentEvent(Model):
    """3.3."""

    transaction_id: Text
    payment_gateway: Literal["razorpay", "payu", "ccavenue", "instamojo", "cashfree"]
    payment_method: PaymentMethod
    payment_status: Literal[
        "pending", "authorized", "captured", "failed", "refunded", "partially_refunded", "cancelled"
    ]
    failure_reason: Text | None = None
    amount: NonNegative
    currency: Currency
    refund_amount: NonNegative | None = None
    confirmation_duration: Duration
    risk_score: Percentage


class NotificationEvent(Model):
    """3.4."""

    notification_type: Literal["email", "sms", "push", "in_app", "webhook"]
    notification_event: Literal[
        "order_confirmation", "shipping_update", "payment_receipt", "promotion", "reminder", "welcome"
    ]
    delivery_status: Literal["sent", "delivered", "opened", "clicked", "bounced", "failed", "unsubscribed"]
    template_id: Text
    vendor: Literal["msg91", "netcore", "pepipost", "firebase", "custom"]
    language: Text
    trigger_source: Text
    open_rate: Ratio
    click_through_rate: Ratio


class DeliveryUpdate(Model):
    """One step of a parcel."""

    status: Text
    timestamp: DateTime
    location: Text


class LogisticsEvent(Model):
    """3.5."""

    warehouse_id: Text
    delivery_partner: Literal["bluedart", "dtdc", "delhivery", "ecom_express", "xpressbees", "local_courier"]
    tracking_id: Text
    delivery_status: Literal[
        "pending", "picked_up", "in_transit", "out_for_delivery", "delivered", "failed", "returned"
    ]
    estimated_delivery: DateTime
    actual_delivery: DateTime | None = None
    delivery_region: Text
    return_status: Literal["none", "requested", "approved", "in_transit", "completed"]
    delivery_delay_duration: Duration | None = None
    delivery_updates: list[DeliveryUpdate]


class InventoryEvent(Model):
    """3.7."""

    product_id: Text
    warehouse_id: Text
    stock_level: Count
    action: Literal["restock", "sale", "return", "adjustment", "transfer", "reservation"]
    quantity_changed: int
    last_restock: DateTime
    out_of_stock_frequency: Count
    product_category: Text
    avg_turnover_days: Count
    returned_units: Count
    daily_units_sold: Count
    reorder_threshold: Count
    shrinkage_rate: Ratio
    supplier_id: Text
