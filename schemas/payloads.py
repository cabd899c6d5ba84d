"""Which payload model belongs to which event type; the 20 types without one carry any JSON object."""

from schemas import (
    customer_events as customer,
    marketing_events as marketing,
    order_events as order,
    patch_events as patch,
)
from schemas.base import Model
from schemas.event_types import EventType

PAYLOADS: dict[EventType, type[Model]] = {
    EventType.CART: order.CartEvent,
    EventType.CHECKOUT: order.CheckoutEvent,
    EventType.PAYMENT: order.PaymentEvent,
    EventType.NOTIFICATION: order.NotificationEvent,
    EventType.LOGISTICS: order.LogisticsEvent,
    EventType.USER: customer.UserEvent,
    EventType.INVENTORY: order.InventoryEvent,
    EventType.FEEDBACK: customer.FeedbackEvent,
    EventType.SEARCH: customer.SearchEvent,
    EventType.RECOMMENDATION: customer.RecommendationEvent,
    EventType.PROMOTION: marketing.PromotionEvent,
    EventType.AFFILIATE: marketing.AffiliateEvent,
    EventType.SUBSCRIPTION: marketing.SubscriptionEvent,
    EventType.SUPPORT: customer.SupportEvent,
    EventType.REVIEW: customer.ReviewEvent,
    EventType.WISHLIST: customer.WishlistEvent,
    EventType.COMPARISON: customer.ComparisonEvent,
    EventType.ABANDONMENT: customer.AbandonmentEvent,
    EventType.REFERRAL: marketing.ReferralEvent,
    EventType.LOYALTY: marketing.LoyaltyEvent,
    EventType.DEVICE_ACTIVATION: patch.DeviceActivationEvent,
    EventType.PATCH_APPLICATION: patch.PatchApplicationEvent,
    EventType.SENSOR_READING: patch.SensorReadingEvent,
    EventType.DOSAGE_DELIVERY: patch.DosageDeliveryEvent,
    EventType.ADVERSE_EVENT: patch.AdverseEventReport,
}
