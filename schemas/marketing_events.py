"""Payloads about promotion and loyalty (contract 3.11 to 3.13, 3.19 and 3.20)."""

from typing import Literal

from schemas.base import Count, DateTime, Model, Percentage, Ratio, Text, Uri
from schemas.shared import Money


class PromotionEvent(Model):
    """3.11."""

    promotion_id: Text
    promotion_type: Literal["discount", "bogo", "free_delivery", "cashback", "loyalty_points"]
    action: Literal["viewed", "clicked", "applied", "removed", "expired"]
    discount_amount: Money
    discount_percentage: Percentage | None = None
    minimum_order_value: Money
    promotion_channel: Literal["email", "website_banner", "app_notification", "social_media", "affiliate"]
    campaign_id: Text


class AffiliateEvent(Model):
    """3.12."""

    affiliate_id: Text
    action: Literal["click", "conversion", "commission_earned", "payout"]
    commission_rate: Ratio
    commission_amount: Money
    referral_url: Uri
    conversion_value: Money
    tracking_id: Text


class SubscriptionEvent(Model):
    """3.13."""

    subscription_id: Text
    action: Literal["created", "renewed", "cancelled", "paused", "resumed", "upgraded", "downgraded"]
    plan_id: Text
    billing_cycle: Literal["monthly", "quarterly", "yearly"]
    subscription_value: Money
    trial_period: bool
    auto_renewal: bool
    cancellation_reason: Literal["price", "features", "competition", "service_quality", "other"] | None = None


class ReferralEvent(Model):
    """3.19."""

    referrer_id: Text
    referee_id: Text | None = None
    referral_code: Text
    action: Literal["code_generated", "code_shared", "signup_via_referral", "first_purchase", "reward_earned"]
    reward_type: Literal["discount", "cashback", "points", "free_product"] | None = None
    reward_value: Money
    sharing_channel: Literal["email", "social_media", "direct_link", "sms"] | None = None


class LoyaltyEvent(Model):
    """3.20."""

    loyalty_program_id: Text
    action: Literal["points_earned", "points_redeemed", "tier_upgraded", "tier_downgraded", "reward_claimed"]
    points_earned: Count | None = None
    points_redeemed: Count | None = None
    current_points_balance: Count
    tier_level: Literal["bronze", "silver", "gold", "platinum", "diamond"]
    reward_id: Text | None = None
    expiry_date: DateTime | None = None
