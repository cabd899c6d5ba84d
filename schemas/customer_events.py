"""Payloads about customers and what they look at (contract 3.6, 3.8 to 3.10, 3.14 to 3.18)."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import AtLeastOne, Count, DateTime, Duration, Model, Stars, Text, Uri
from schemas.shared import Device, Geo, Money


class UserEvent(Model):
    """3.6."""

    action: Literal[
        "signup",
        "login",
        "logout",
        "profile_update",
        "password_change",
        "email_verification",
        "phone_verification",
        "account_deletion",
    ]
    user_type: Literal["guest", "registered", "premium", "business"]
    login_method: Literal["email_password", "social_google", "social_facebook", "phone_otp", "aadhaar_otp", "sso"]
    login_count: Count
    last_active: DateTime
    email_verified: bool
    mobile_verified: bool
    referral_code: Text | None = None
    avg_session_duration: Duration
    device: Device | None = None
    geo: Geo | None = None


class FeedbackEvent(Model):
    """3.8."""

    feedback_id: Text
    rating: Stars
    comment: Text | None = None
    category: Literal["product", "service", "delivery", "website", "support", "general"]
    sentiment: Literal["positive", "negative", "neutral"]
    channel: Literal["website", "email", "phone", "chat", "social_media", "app"]
    resolved: bool
    resolution_duration: Duration | None = None
    tags: list[Text] | None = None
    helpful_votes: Count


class SearchFilter(Model):
    """One filter of a search."""

    filter_type: Text
    filter_value: Text


class SearchEvent(Model):
    """3.9."""

    query: Text
    filters_applied: list[SearchFilter]
    results_returned: Count
    top_clicked_product: Text | None = None
    click_position: AtLeastOne | None = None
    abandoned_search: bool
    category_clicked: Text | None = None
    zero_result_flag: bool
    search_duration: Duration
    suggestion_clicked: bool
    converted_to_order: bool
    search_type: Literal["text", "voice", "image", "barcode"]


class RecommendedItem(Model):
    """One item of a recommendation."""

    item_id: Text
    item_type: Text
    score: float
    position: int


class RecommendationEvent(Model):
    """3.10."""

    recommendation_type: Literal["product", "category", "brand", "similar_users", "trending", "personalized"]
    algorithm: Literal["collaborative_filtering", "content_based", "hybrid", "ml_model", "rule_based"]
    recommended_items: list[RecommendedItem]
    context: Literal["homepage", "product_page", "cart", "checkout", "email", "search_results"]
    clicked: bool
    clicked_item_id: Text | None = None
    converted: bool
    model_version: Text


class SupportEvent(Model):
    """3.14."""

    ticket_id: Text
    action: Literal["created", "updated", "resolved", "closed", "escalated", "reopened"]
    category: Literal["technical", "billing", "product", "delivery", "account", "general"]
    priority: Literal["low", "medium", "high", "urgent"]
    channel: Literal["email", "chat", "phone", "ticket_system", "social_media"]
    agent_id: Text | None = None
    resolution_duration: Duration | None = None
    satisfaction_rating: Stars | None = None


class ReviewEvent(Model):
    """3.15."""

    review_id: Text
    product_id: Text
    rating: Stars
    review_text: Text | None = None
    verified_purchase: bool
    helpful_votes: Count
    total_votes: Count
    review_status: Literal["pending", "approved", "rejected", "flagged"]
    moderation_reason: Text | None = None


class WishlistEvent(Model):
    """3.16."""

    wishlist_id: Text
    action: Literal["item_added", "item_removed", "wishlist_shared", "item_moved_to_cart"]
    product_id: Text
    wishlist_size: Count
    shared_with: list[Text] | None = None
    privacy_setting: Literal["private", "public", "friends_only"]


class ComparisonEvent(Model):
    """3.17; at least two products."""

    comparison_id: Text
    products_compared: Annotated[list[Text], Field(min_length=2)]
    comparison_criteria: list[Text]
    selected_product: Text | None = None
    comparison_duration: Duration


class AbandonmentEvent(Model):
    """3.18."""

    abandonment_type: Literal["cart", "checkout", "search", "product_view", "registration"]
    stage: Text
    abandonment_duration: Duration
    cart_value: Money
    items_count: Count
    exit_page: Uri
    recovery_email_sent: bool
